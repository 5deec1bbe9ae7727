//! Finding a hundred changes in trees of any size, with btrfs.
//!
//! The home is on a btrfs of its own, in a sparse file in the directory that was given; what that directory is on matters less than for other subjects, since all is in the caches.

use std::fs::{self, File, OpenOptions as FileOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use graphdriver::{CreateOptions, Graph, IdMaps, LayerId, OpenOptions, naive};
use nix::mount::{MntFlags, umount2};

use crate::peer::run as run_command;
use crate::samples::Samples;
use crate::{Peers, Result, Row, Setting};

/// Files in a tree, a hundred to a directory.
const SIZES: [usize; 3] = [5_000, 50_000, 500_000];
const QUICK_SIZES: [usize; 2] = [500, 5_000];

const CHANGES: usize = 100;

const IMAGE_BYTES: u64 = 16 << 30;

pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let volume = Volume::new(&setting.dir)?;
    let options = OpenOptions::new(volume.path.join("root"), volume.path.join("run"));
    let graph = graphdriver::registry().open("btrfs", &options)?;
    let sizes = if setting.quick { &QUICK_SIZES[..] } else { &SIZES };
    let mut rows = Vec::new();
    for files in sizes {
        rows.extend(measure(&graph, &volume, *files, setting)?);
    }
    Ok(rows)
}

fn measure(graph: &Graph, volume: &Volume, files: usize, setting: &Setting) -> Result<Vec<Row>> {
    let [base, child] = ["base", "child"].map(|name| format!("{name}-{files}"));
    let [base_id, child_id]: [LayerId; 2] = [base.parse()?, child.parse()?];
    graph.create(&base_id, &CreateOptions::default())?;
    fill(&volume.layer(&base), files)?;
    graph.create(&child_id, &CreateOptions::on(&base_id))?;
    let root = volume.layer(&child);
    edit(&root, files)?;

    let found = graph.changes(&child_id, Some(&base_id))?;
    let walked = naive::changes(graph, &child_id, Some(&base_id))?;
    if found != walked {
        return Err(format!(
            "{} changes were found, and {} by walking both trees",
            found.len(),
            walked.len()
        )
        .into());
    }
    let changes = || Ok(graph.changes(&child_id, Some(&base_id)).map(drop)?);
    let edited = root.join(path(0));
    let mut right_after = Vec::new();
    for _ in 0..setting.times(100) {
        overwrite(&edited)?;
        let start = Instant::now();
        changes()?;
        right_after.push(start.elapsed());
    }
    let diff = || {
        let mut diff = graph.diff(&child_id, Some(&base_id), &IdMaps::default())?;
        std::io::copy(&mut diff, &mut std::io::sink())?;
        Ok(diff.finish()?)
    };
    let walk = || Ok(naive::changes(graph, &child_id, Some(&base_id)).map(drop)?);
    let row = |what: &str, ours| Row { what: format!("{files} files: {what}"), ours, peers: Peers::None };
    Ok(vec![
        row("list of changes", Samples::take(setting.times(100), changes)?),
        row("the same right after an edit", Samples::of(right_after)),
        row("diff", Samples::take(setting.times(100), diff)?),
        row("list, both trees walked", Samples::take(setting.times(5), walk)?),
    ])
}

/// Where the file of a number is.
fn path(number: usize) -> PathBuf {
    let directory = number / 100;
    PathBuf::from(format!("{:03}/{:02}/file-{:02}", directory / 100, directory % 100, number % 100))
}

fn fill(root: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let file = root.join(path(number));
        if number % 100 == 0 {
            fs::create_dir_all(file.parent().unwrap_or(root))?;
        }
        fs::write(file, number.to_string().repeat(20))?;
    }
    Ok(())
}

/// A third of them edits, additions and deletions each, all over the tree.
fn edit(root: &Path, files: usize) -> Result<()> {
    for change in 0..CHANGES {
        let file = root.join(path(change * (files / CHANGES)));
        match change % 3 {
            0 => overwrite(&file)?,
            1 => fs::write(file.with_extension("new"), "new")?,
            _ => fs::remove_file(file)?,
        }
    }
    Ok(())
}

fn overwrite(file: &Path) -> Result<()> {
    Ok(FileOptions::new().write(true).open(file)?.write_all_at(b"edited", 0)?)
}

/// A btrfs, mounted until this is dropped.
struct Volume {
    path: PathBuf,
}

impl Volume {
    fn new(dir: &Path) -> Result<Self> {
        let (image, path) = (dir.join("image"), dir.join("volume"));
        File::create_new(&image)?.set_len(IMAGE_BYTES)?;
        run_command(Command::new("mkfs.btrfs").args(["-q", "-m", "single"]).arg(&image))?;
        fs::create_dir(&path)?;
        run_command(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).arg(&image).arg(&path))?;
        Ok(Self { path })
    }

    fn layer(&self, layer: &str) -> PathBuf {
        self.path.join("root/btrfs/subvolumes").join(layer)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(errno) = umount2(&self.path, MntFlags::MNT_DETACH) {
            eprintln!("bench: unmount {:?}: {errno}", self.path);
        }
    }
}
