//! `cargo xtask demo`: the main job from image to diff.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::command::{self, cargo, check, output, target_dir};
use crate::{Result, demo_image};

/// What the demo runs in the layer: it edits, adds and deletes.
const EDITS: &str = "echo 'Edited in the container.' >> /etc/motd
mkdir -p /srv/app/reports
echo 42 > /srv/app/reports/today
rm /srv/app/data
mv /srv/app/config /srv/app/settings
chmod 600 /srv/app/settings
cat /etc/motd";

/// Prints what tells two trees apart: kind, mode, owner, size, time, link target, name, and the checksums of files. The root directory and what is mounted for
/// the run are left out.
const LISTING: &str = r"cd / && find . -xdev \( -path ./dev -o -path ./proc -o -path ./sys \) -prune -o \
    \( -type d ! -path . -printf '%y %m %U:%G %T@ %p\n' \) -o \( ! -type d -printf '%y %m %U:%G %s %T@ %l %p\n' \)
find . -xdev -type f -exec cksum {} +";

/// How the demo runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Use this driver instead of the best one that works here.
    #[arg(long)]
    driver: Option<String>,
    /// Keep the working directory and print its path.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    step("Build the graphdriver command");
    check(cargo().args(["build", "--release", "--quiet", "--package", "graphdriver-cli"]))?;
    let work = tempfile::Builder::new().prefix("graphdriver-demo-").tempdir()?;
    let demo = Demo {
        program: target_dir().join("release/graphdriver"),
        work: work.path().to_owned(),
        driver: options.driver.clone(),
    };
    let result = demo.play();
    if options.keep {
        println!("\nKept: {}", work.keep().display());
        return result;
    }
    // Below the stores lie layers whose owners an ordinary user cannot delete; the program that made them can.
    let removed = demo.remove_stores();
    result.and(removed)
}

struct Demo {
    program: PathBuf,
    work: PathBuf,
    driver: Option<String>,
}

impl Demo {
    fn play(&self) -> Result<()> {
        step("Make an OCI image of three layers from this machine's shell; the last one has whiteouts");
        let image = self.work.join("image");
        demo_image::write(&image)?;
        let image = format!("oci:{}", image.display());

        step("Which drivers work here, and which one is picked");
        self.show("first", &["drivers"])?;
        self.show("first", &["info"])?;

        step("Import the image");
        let top = self.import("first", &image)?;

        step(
            "Run a command in a read-write layer on top of it, which edits, adds and deletes, and see what changed",
        );
        self.show("first", &["run", &top, "--changes", "--keep", "work", "--", "/bin/sh", "-c", EDITS])?;

        step("Export the changes as a layer");
        let diff = self.work.join("diff.tar");
        let diff_path = diff.to_string_lossy();
        self.show("first", &["diff", "work", "-o", &diff_path])?;
        println!("{diff_path}: {} bytes", fs::metadata(&diff)?.len());

        step("Apply them in a second store");
        self.import("second", &image)?;
        self.show("second", &["apply", "copy", &diff_path, "--parent", &top])?;

        step("Are both equal?");
        let again = self.work.join("again.tar");
        self.show("second", &["diff", "copy", "-o", &again.to_string_lossy()])?;
        same("the layers as archives, byte for byte", &fs::read(&diff)?, &fs::read(&again)?)?;
        let listing = |store, layer| self.capture(store, &["run", layer, "--", "/bin/sh", "-c", LISTING]);
        let (first, second) = (listing("first", "work")?, listing("second", "copy")?);
        same(
            "the mounted trees, every name, mode, owner, time and checksum",
            &sorted(&first),
            &sorted(&second),
        )?;
        println!("\nDone.");
        Ok(())
    }

    fn import(&self, store: &str, image: &str) -> Result<String> {
        Ok(self.capture(store, &["import", image])?.trim().to_owned())
    }

    fn graphdriver(&self, store: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(self.work.join(store))
            .arg("--run-root")
            .arg(self.work.join(format!("{store}-run")));
        if let Some(driver) = &self.driver {
            command.args(["--driver", driver]);
        }
        command.args(arguments);
        let shown: Vec<_> =
            arguments.iter().map(|word| if word.contains('\n') { "'...'" } else { word }).collect();
        println!("$ graphdriver --root {store} {}", shown.join(" "));
        drop(std::io::stdout().flush());
        command
    }

    fn show(&self, store: &str, arguments: &[&str]) -> Result<()> {
        check(&mut self.graphdriver(store, arguments))
    }

    fn capture(&self, store: &str, arguments: &[&str]) -> Result<String> {
        let output = output(self.graphdriver(store, arguments).stdin(Stdio::null()))?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn remove_stores(&self) -> Result<()> {
        step("Remove both stores");
        for store in ["first", "second"] {
            if !self.work.join(store).exists() {
                continue;
            }
            let mut list = self.graphdriver(store, &["list"]);
            let layers = String::from_utf8(command::output(&mut list)?.stdout)?;
            let mut arguments = vec!["remove"];
            arguments.extend(layers.split_whitespace());
            if arguments.len() > 1 {
                check(self.graphdriver(store, &arguments).stdout(Stdio::null()))?;
            }
        }
        Ok(())
    }
}

/// The lines of a listing in an order that does not depend on the file system.
fn sorted(listing: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = listing.lines().collect();
    lines.sort_unstable();
    lines.join("\n").into_bytes()
}

fn same(what: &str, first: &[u8], second: &[u8]) -> Result<()> {
    if first == second {
        println!("equal: {what} ({} bytes compared)", first.len());
        return Ok(());
    }
    let (first, second) = (String::from_utf8_lossy(first), String::from_utf8_lossy(second));
    for (first, second) in
        first.lines().zip(second.lines()).filter(|(first, second)| first != second).take(10)
    {
        eprintln!("- {}\n+ {}", first.escape_debug(), second.escape_debug());
    }
    Err(format!("the two stores differ: {what}").into())
}

fn step(text: &str) {
    println!("\n\x1b[1m==> {text}\x1b[0m");
}
