//! `cargo xtask test`: every check and test that this machine can run.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::command::{cargo, check, line, output, repository, target_dir};
use crate::{Result, ordinary_user, tidy, vm};

/// Debian packages that the tests need, and a file of each by which it is known to be there.
const PACKAGES: [(&str, &str); 22] = [
    ("acl", "/usr/bin/setfacl"),
    ("attr", "/usr/bin/setfattr"),
    ("btrfs-progs", "/usr/sbin/mkfs.btrfs"),
    ("busybox-static", "/usr/bin/busybox"),
    ("containers-storage", "/usr/bin/containers-storage"),
    ("debootstrap", "/usr/sbin/debootstrap"),
    ("docker.io", "/usr/sbin/dockerd"),
    ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
    ("fuse-overlayfs", "/usr/bin/fuse-overlayfs"),
    ("fuse3", "/usr/bin/fusermount3"),
    ("libbtrfsutil-dev", "/usr/include/btrfsutil.h"),
    ("libcap2-bin", "/usr/sbin/setcap"),
    ("libclang-dev", "/usr/share/doc/libclang-dev"),
    ("mount", "/usr/bin/mount"),
    ("openssl", "/usr/bin/openssl"),
    ("podman", "/usr/bin/podman"),
    ("python3-pip", "/usr/bin/pip3"),
    ("runc", "/usr/sbin/runc"),
    ("skopeo", "/usr/bin/skopeo"),
    ("uidmap", "/usr/bin/newuidmap"),
    ("umoci", "/usr/bin/umoci"),
    ("xfsprogs", "/usr/sbin/mkfs.xfs"),
];

/// Every set of features that must build without a warning, alone and together.
const FEATURE_SETS: [&str; 10] =
    ["", "aufs", "overlay", "btrfs", "btrfs,libbtrfsutil", "vfs", "zfs", "zfs,libzfs", "plugin", "full"];

/// Which tests run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only the tests, not the checks of style, lints and documentation.
    #[arg(long)]
    no_checks: bool,
    /// Let tests whose needs are not met be ignored instead of failing; the default without root.
    #[arg(long)]
    lenient: bool,
    /// Only tests whose names contain this.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    if root {
        install_packages()?;
    } else {
        println!("Not root: tests that mount file systems or change owners are ignored and listed.");
    }
    if !options.no_checks {
        checks()?;
    }
    let strict = root && !options.lenient;
    let mut counts = Counts::default();
    step("Unit and integration tests");
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    tests.args(["--exclude", "graphdriver-conformance", "--exclude", "graphdriver-interop", "--"]);
    tests.args(&options.filter);
    if root {
        tests.arg("--include-ignored");
    }
    counts.add(&mut tests)?;
    step("Conformance: every driver, variant and file system");
    counts.add(&mut suite("graphdriver-conformance", options, strict))?;
    if options.filter.is_none() {
        step("Several processes in one home, for a minute");
        let mut stress = suite("graphdriver-conformance", options, strict);
        stress.arg("overlay-native/tmpfs/several_processes").env("GRAPHDRIVER_STRESS_SECONDS", "60");
        counts.add(&mut stress)?;
    }
    if root {
        step("The same without privilege");
        let ignored = counts.ignored;
        for mut command in ordinary_user::Programs::build()?.commands() {
            counts.add(command.arg("--quiet").args(&options.filter))?;
        }
        // They need root, and have run above.
        counts.ignored = ignored;
        if options.filter.is_none() {
            step("The drivers without system calls that older kernels lack");
            vm::as_if_older(|suite| counts.add(suite))?;
        }
        step("Interoperation with GNU tar, umoci, containers/storage, podman and dockerd");
        let layers = make_layers()?;
        counts.add(suite("graphdriver-interop", options, strict).env("GRAPHDRIVER_TEST_LAYERS", layers))?;
        if options.filter.is_none() {
            step("Limits of layers on other kernels, in guests");
            counts.add_guests(&vm::run_every_day()?);
        }
    }
    counts.report()
}

fn install_packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, file)| !PathBuf::from(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !PathBuf::from("/usr/bin/apt-get").exists() {
        return Err(format!("the tests need what Debian packages as: {}", missing.join(" ")).into());
    }
    step(&format!("Install {}", missing.join(" ")));
    check(Command::new("apt-get").args(["-qq", "update"]))?;
    let mut install = Command::new("apt-get");
    install.args(["-qq", "install", "--yes", "--no-install-recommends"]).args(missing);
    let _none_started = NoServices::begin();
    check(install.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}

/// While it lives, packages that are installed start no services: the tests start what they need, in places of their own.
struct NoServices {
    made: bool,
}

impl NoServices {
    /// What `invoke-rc.d` asks; 101 is its word for no.
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    /// A policy that is there already is somebody's own, and stays.
    fn begin() -> Self {
        let mut file = std::fs::File::options();
        let file = file.write(true).create_new(true).mode(0o755).open(Self::POLICY);
        Self { made: file.and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n")).is_ok() }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made
            && let Err(error) = std::fs::remove_file(Self::POLICY)
        {
            println!("{}: {error}", Self::POLICY);
        }
    }
}

fn checks() -> Result<()> {
    step("Style, lints, documentation");
    tidy::run()?;
    check(cargo().args(["fmt", "--all", "--check"]))?;
    for features in FEATURE_SETS {
        let mut clippy = cargo();
        clippy.args(["clippy", "--quiet", "--all-targets", "--no-default-features", "--features", features]);
        check(clippy.args([
            "--package",
            "graphdriver",
            "--package",
            "graphdriver-cli",
            "--",
            "--deny",
            "warnings",
        ]))?;
    }
    check(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "--deny",
        "warnings",
    ]))?;
    check(
        cargo()
            .args(["doc", "--quiet", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    let tree = output(cargo().args([
        "tree",
        "--package",
        "graphdriver",
        "--no-default-features",
        "--features",
        "vfs",
    ]))?;
    if String::from_utf8_lossy(&tree.stdout).contains("graphdriver-overlay") {
        return Err("the feature vfs alone brings the overlay driver".into());
    }
    Ok(())
}

fn suite(package: &str, options: &Options, strict: bool) -> Command {
    let mut command = cargo();
    command.args(["test", "--package", package, "--all-features", "--"]);
    command.args(&options.filter);
    if strict {
        command.arg("--strict");
    }
    command
}

/// Makes the layers that the interoperation tests unpack, once.
fn make_layers() -> Result<PathBuf> {
    let layers = target_dir().join("test-layers");
    if !layers.join("image").is_dir() {
        step("Make realistic layers");
        check(Command::new("bash").arg(repository().join("tests/data/make-layers.sh")).arg(&layers))?;
    }
    Ok(layers)
}

/// What the test programs counted, added up.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    programs_failed: Vec<String>,
}

impl Counts {
    /// Runs test programs, passing on what they print.
    fn add(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        for printed in
            child.stdout.take().map(BufReader::new).into_iter().flat_map(|reader| reader.split(b'\n'))
        {
            let printed = String::from_utf8_lossy(&printed?).into_owned();
            println!("{printed}");
            self.count(&printed);
        }
        if !child.wait()?.success() {
            self.programs_failed.push(line(command));
        }
        Ok(())
    }

    fn add_guests(&mut self, tally: &vm::Tally) {
        self.passed += tally.passed;
        self.failed += tally.failed;
        self.ignored += tally.ignored;
        if tally.failed > 0 {
            self.programs_failed.push("suites in guests".to_owned());
        }
    }

    /// Takes up a line like `test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; ...`.
    fn count(&mut self, printed: &str) {
        let Some(result) = printed.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn report(&self) -> Result<()> {
        println!("\n{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored);
        match (self.programs_failed.as_slice(), self.passed) {
            ([], 0) => Err("no test ran".into()),
            ([], _) => Ok(()),
            (failed, _) => Err(format!("failed: {}", failed.join("; ")).into()),
        }
    }
}

fn step(text: &str) {
    println!("\n\x1b[1m==> {text}\x1b[0m");
}
