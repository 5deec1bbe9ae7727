//! What a hundred changes cost in trees of several sizes; the figures for zfs in docs/performance.md are from here.

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use graphdriver_core::naive;

use crate::store::Store;

/// Files in each tree, separated by commas.
const SIZES: &str = "GRAPHDRIVER_SCALING_FILES";

const CHANGES: usize = 100;

/// The changes are found in each; how fast, is told when sizes were asked for.
pub fn hundred_changes(store: &Store) {
    let asked = env::var(SIZES);
    let sizes = asked.as_deref().unwrap_or("1000");
    for files in sizes.split(',').map(|files| files.parse().unwrap()) {
        let base = store.create(&format!("base-{files}"), None);
        store.edit(&base, |root| fill(root, files));
        let child = store.create(&format!("child-{files}"), Some(&base));
        store.edit(&child, |root| change(root, files));
        let native = || store.graph().changes(&child, Some(&base)).unwrap();
        let walking = || naive::changes(store.graph(), &child, Some(&base)).unwrap();
        let found = native();
        assert_eq!(found, walking());
        assert!(found.len() >= CHANGES, "{}", found.len());
        if asked.is_ok() {
            let [native, walking] = [median(|| drop(native())), median(|| drop(walking()))];
            eprintln!("{files} files: {native:.2?}, walked {walking:.2?}");
        }
    }
}

/// A hundred to a directory.
fn path(number: usize) -> PathBuf {
    let directory = number / 100;
    PathBuf::from(format!("{:03}/{:02}/file-{:02}", directory / 100, directory % 100, number % 100))
}

fn fill(root: &Path, files: usize) {
    for number in 0..files {
        let file = root.join(path(number));
        if number % 100 == 0 {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
        }
        fs::write(file, number.to_string().repeat(20)).unwrap();
    }
}

/// A third of them edits, additions and deletions each, all over the tree.
fn change(root: &Path, files: usize) {
    for number in 0..CHANGES {
        let file = root.join(path(number * (files / CHANGES)));
        match number % 3 {
            0 => {
                let file = OpenOptions::new().write(true).open(file).unwrap();
                file.write_all_at(b"edited", 0).unwrap();
            }
            1 => fs::write(file.with_extension("new"), "new").unwrap(),
            _ => fs::remove_file(file).unwrap(),
        }
    }
}

fn median(work: impl Fn()) -> Duration {
    const ROUNDS: usize = 5;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
