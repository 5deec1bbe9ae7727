//! A btrfs in memory, for tests: those of this crate's modules, and those beside it.

use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, umount2};

pub(crate) struct TestVolume {
    dir: tempfile::TempDir,
}

impl TestVolume {
    /// Mounted with these options besides `loop`.
    pub(crate) fn new(mount_options: &str) -> Self {
        let image = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        image.as_file().set_len(1 << 30).unwrap();
        run(Command::new("mkfs.btrfs").arg("-q").arg(image.path()));
        let dir = tempfile::tempdir().unwrap();
        let options = format!("loop,{mount_options}");
        run(Command::new("mount").args(["-t", "btrfs", "-o", &options]).arg(image.path()).arg(dir.path()));
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

/// What a program that has to succeed prints.
pub(crate) fn run(command: &mut Command) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
