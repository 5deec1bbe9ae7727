//! A btrfs in memory, for tests.

use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, umount2};

pub(crate) struct TestVolume {
    dir: tempfile::TempDir,
}

impl TestVolume {
    pub(crate) fn new() -> Self {
        let image = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        image.as_file().set_len(256 << 20).unwrap();
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("mkfs.btrfs").arg("-q").arg(image.path()));
        run(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).arg(image.path()).arg(dir.path()));
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for TestVolume {
    fn drop(&mut self) {
        if let Err(errno) = umount2(self.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {:?}: {errno}", self.path());
        }
    }
}

fn run(command: &mut Command) {
    let status = command.env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").status().unwrap();
    assert!(status.success(), "{command:?}");
}
