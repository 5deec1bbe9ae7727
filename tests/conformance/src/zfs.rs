//! A pool of ZFS for the suite, and a dataset of it for each case.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::backing::run;
use crate::needs::Need;

/// The pool of this process.
pub fn pool() -> String {
    format!("graphdriver-suite-{}", std::process::id())
}

/// Room for the largest tree that its costs are measured with; only what is written takes memory.
const POOL_BYTES: u64 = 4 << 30;

/// Makes the pool, on a file in memory, and mounts it on the directory `root`.
pub fn make_pool(root: &Path) -> Result<(), Need> {
    if !Path::new("/dev/zfs").exists() {
        return Err(Need::Kernel("zfs: the module is not loaded".to_owned()));
    }
    make(&pool(), POOL_BYTES, root)
}

pub fn destroy_pool() {
    destroy(&pool());
}

fn small_pool() -> String {
    format!("{}-small", pool())
}

/// Makes a second pool, as small as one can be.
pub fn make_small_pool(root: &Path) {
    make(&small_pool(), 64 << 20, root).unwrap_or_else(|need| panic!("{need}"));
}

/// What is taken of it, in bytes.
pub fn small_pool_used() -> u64 {
    run("zpool", Command::new("zpool").args(["sync", &small_pool()])).unwrap_or_else(|need| panic!("{need}"));
    zfs(&["list", "-H", "-p", "-o", "used", &small_pool()]).trim_end().parse().unwrap()
}

pub fn destroy_small_pool() {
    destroy(&small_pool());
}

fn make(pool: &str, bytes: u64, root: &Path) -> Result<(), Need> {
    let image = image_of(pool);
    File::create(&image).unwrap().set_len(bytes).unwrap();
    let mountpoint = format!("mountpoint={}", root.display());
    let mut create = Command::new("zpool");
    create.args(["create", "-f", "-O", "acltype=posix", "-O", "compression=off", "-O", &mountpoint]);
    run("zpool", create.arg(pool).arg(&image))
}

fn destroy(pool: &str) {
    run("zpool", Command::new("zpool").args(["destroy", "-f", pool])).unwrap_or_else(|need| panic!("{need}"));
    fs::remove_file(image_of(pool)).unwrap();
}

fn image_of(pool: &str) -> PathBuf {
    Path::new("/dev/shm").join(pool)
}

/// Runs `zfs` with these words; returns what it printed.
pub fn zfs(words: &[&str]) -> String {
    let output = Command::new("zfs").args(words).output().unwrap();
    assert!(output.status.success(), "zfs {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Has the pool write what was changed, and with that count what was freed.
pub fn write_out() {
    run("zpool", Command::new("zpool").args(["sync", &pool()])).unwrap();
}

/// A dataset that is mounted on a directory of its own; all in it goes with it.
pub struct CaseDataset {
    name: String,
    path: PathBuf,
}

impl CaseDataset {
    pub fn new(root: &Path, prefix: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let last = format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{}/{last}", pool());
        zfs(&["create", &name]);
        Self { name, path: root.join(last) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaseDataset {
    fn drop(&mut self) {
        // After a failure, layers may still be mounted.
        let destroyed = Command::new("zfs").args(["destroy", "-R", "-f", &self.name]).output();
        if !destroyed.is_ok_and(|output| output.status.success()) {
            eprintln!("{} stays until the pool is destroyed", self.name);
        }
    }
}
