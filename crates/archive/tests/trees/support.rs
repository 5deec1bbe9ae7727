//! Making trees in three lines.

use std::ffi::CString;
use std::fs::{self, File, FileTimes};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use graphdriver_archive::{Change, RootDir};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

/// A fresh directory, removed at the end.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn root(&self) -> RootDir {
        RootDir::open(self.0.path()).unwrap()
    }

    /// Makes the directory and those above it.
    pub(crate) fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    /// Makes a chain of directories `name`, and gives back the last.
    pub(crate) fn chain(&self, name: &str, depth: usize) -> OwnedFd {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut dir = nix::fcntl::open(&self.path(""), flags, Mode::empty()).unwrap();
        for _ in 0..depth {
            nix::sys::stat::mkdirat(&dir, name, Mode::S_IRWXU).unwrap();
            dir = nix::fcntl::openat(&dir, name, flags, Mode::empty()).unwrap();
        }
        dir
    }

    /// Writes a file, and makes the directories above it.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
        self
    }

    pub(crate) fn symlink(&self, path: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.path(path)).unwrap();
        self
    }

    pub(crate) fn link(&self, path: &str, existing: &str) -> &Self {
        fs::hard_link(self.path(existing), self.path(path)).unwrap();
        self
    }

    pub(crate) fn node(&self, path: &str, kind: SFlag, device: (u64, u64)) -> &Self {
        mknod(&self.path(path), kind, Mode::from_bits_truncate(0o600), makedev(device.0, device.1)).unwrap();
        self
    }

    /// An overlay whiteout; needs root before Linux 5.8.
    pub(crate) fn whiteout(&self, path: &str) -> &Self {
        self.node(path, SFlag::S_IFCHR, (0, 0))
    }

    pub(crate) fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn xattr(&self, path: &str, name: &str, value: &[u8]) -> &Self {
        let file = File::open(self.path(path)).unwrap();
        graphdriver_sys::xattr::fset(&file, name, value, graphdriver_sys::xattr::SetFlags::empty()).unwrap();
        self
    }

    /// Sets the time of modification, of a symbolic link itself too.
    pub(crate) fn time(&self, path: &str, seconds: i64, nanoseconds: i64) -> &Self {
        let time = TimeSpec::new(seconds, nanoseconds);
        let cwd = nix::fcntl::AT_FDCWD;
        utimensat(cwd, &self.path(path), &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
        self
    }

    /// Gives everything in the tree one time, so that only what is changed afterwards differs.
    pub(crate) fn settle(&self) -> &Self {
        settle(self.0.path());
        self
    }

    pub(crate) fn remove(&self, path: &str) -> &Self {
        self.root().remove_all(Path::new(path)).unwrap();
        self
    }

    /// A copy made by `cp -a`.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        let status =
            std::process::Command::new("cp").arg("-a").arg(self.path(".")).arg(copy.path(".")).status();
        assert!(status.unwrap().success());
        copy
    }
}

/// All that is to be known about each file in a tree, one line per path; hard links are told by the first name of each file.
pub(crate) fn snapshot(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first_names = std::collections::HashMap::new();
    let mut pending = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                pending.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let stat = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap();
        let first = first_names.entry((stat.dev(), stat.ino())).or_insert_with(|| name.to_owned()).clone();
        let content = match stat.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&content, &mut hasher);
        let size = if stat.is_dir() { 0 } else { stat.len() };
        lines.push(format!(
            "{name:?} {:o} {}:{} {size} {}.{:09} {:x} {first:?} {:?} {:x}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.rdev(),
            xattrs(&path),
            std::hash::Hasher::finish(&hasher),
        ));
    }
    lines
}

fn xattrs(path: &Path) -> Vec<(CString, Vec<u8>)> {
    let parent = File::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap();
    let mut found: Vec<_> = graphdriver_sys::xattr::list_at(&parent, name)
        .unwrap()
        .iter()
        .map(|attribute| {
            let value = graphdriver_sys::xattr::get_at(&parent, name, attribute).unwrap().unwrap();
            (attribute.to_owned(), value)
        })
        .collect();
    found.sort();
    found
}

fn settle(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            settle(&path);
        }
        let time = TimeSpec::new(1_600_000_000, 123_456_789);
        utimensat(nix::fcntl::AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
    }
    let time = UNIX_EPOCH + Duration::new(1_600_000_000, 0);
    File::open(dir).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// The moment that a copy is finished, for comparisons by it.
pub(crate) fn now_is_past() -> SystemTime {
    let now = SystemTime::now();
    std::thread::sleep(Duration::from_millis(50));
    now
}

/// Changes as the programs print them.
pub(crate) fn printed(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}
