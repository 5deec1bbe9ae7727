//! Sharing equal files' blocks, on file systems that can and on one that cannot. Those are made in images and mounted, which needs root.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use graphdriver_archive::{DedupHash, RootDir, dedup};
use graphdriver_sys::extents::{Extent, ExtentFlags};
use nix::mount::{MntFlags, umount2};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

const ALL: [DedupHash; 3] = [DedupHash::Crc, DedupHash::Size, DedupHash::Sha256];
const MIB: usize = 1 << 20;

/// A file system in an image, unmounted at the end.
struct FileSystem {
    dir: TempDir,
}

impl FileSystem {
    fn make(name: &str, options: &[&str]) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let image = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        image.as_file().set_len(512 << 20).unwrap();
        let run = |command: &mut Command| {
            let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new(format!("mkfs.{name}")).args(options).arg(image.path()));
        run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(dir.path()));
        Self { dir }
    }

    fn xfs() -> Self {
        Self::make("xfs", &["-q", "-f", "-m", "reflink=1"])
    }

    fn btrfs() -> Self {
        Self::make("btrfs", &["-q", "-f"])
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes trees with these files; a path begins with the name of its tree.
    fn trees(&self, files: &[(&str, &[u8])]) -> Vec<RootDir> {
        let mut trees = Vec::new();
        for (path, contents) in files {
            let file = self.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, contents).unwrap();
            let tree = self.path().join(path.split('/').next().unwrap());
            if !trees.contains(&tree) {
                trees.push(tree);
            }
        }
        trees.iter().map(|tree| RootDir::open(tree).unwrap()).collect()
    }

    fn used(&self) -> u64 {
        File::open(self.path()).and_then(|dir| nix::unistd::syncfs(dir).map_err(Into::into)).unwrap();
        let stat = statvfs(self.path()).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }

    fn extents(&self, path: &str) -> Vec<Extent> {
        graphdriver_sys::extents(File::open(self.path().join(path)).unwrap(), 0, u64::MAX).unwrap()
    }

    fn is_shared(&self, path: &str) -> bool {
        self.extents(path).iter().any(|extent| extent.flags().contains(ExtentFlags::SHARED))
    }

    fn first_block(&self, path: &str) -> u64 {
        self.extents(path)[0].physical
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        umount2(self.dir.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..bytes).map(next).collect()
}

fn sharing_frees_space(fs: &FileSystem, hash: DedupHash) {
    let (large, small) = (random(40 * MIB + 100, 1), random(10_000, 2));
    let roots = fs.trees(&[
        ("one/large", &large),
        ("one/sub/small", &small),
        ("two/other/large", &large),
        ("two/small", &small),
        ("two/alone", &random(5000, 3)),
        ("three/same-size", &random(10_000, 4)),
        ("three/small", &small),
    ]);
    let before = fs.used();
    let times: Vec<_> = ["one/large", "two/other/large"]
        .map(|path| fs::metadata(fs.path().join(path)).unwrap().mtime_nsec())
        .into();
    let bytes = dedup(&roots, hash).unwrap();
    assert_eq!(bytes, (large.len() + 2 * small.len()) as u64, "{hash:?}");
    let freed = before.saturating_sub(fs.used());
    assert!(freed > 39 * MIB as u64, "{hash:?}: {freed} bytes were freed");
    for (one, other) in [("one/large", "two/other/large"), ("one/sub/small", "three/small")] {
        assert_eq!(fs.first_block(one), fs.first_block(other), "{one} and {other}");
        assert!(fs.is_shared(one) && fs.is_shared(other));
    }
    for alone in ["two/alone", "three/same-size"] {
        assert!(!fs.is_shared(alone), "{alone}");
    }
    for (path, contents) in [("one/large", &large), ("two/other/large", &large), ("three/small", &small)] {
        assert!(fs::read(fs.path().join(path)).unwrap() == *contents, "{path}");
    }
    let after: Vec<_> = ["one/large", "two/other/large"]
        .map(|path| fs::metadata(fs.path().join(path)).unwrap().mtime_nsec())
        .into();
    assert_eq!(after, times);
    assert_eq!(dedup(&roots, hash).unwrap(), 0, "{hash:?}: all is shared already");
    // What is shared is a file of its own all the same.
    let written = File::options().write(true).open(fs.path().join("two/other/large")).unwrap();
    written.write_all_at(b"changed", 4096).unwrap();
    assert!(fs::read(fs.path().join("one/large")).unwrap() == large);
    assert_eq!(dedup(&roots, hash).unwrap(), 0, "{hash:?}: they differ now, and share what is equal already");
}

#[test]
#[ignore = "needs root"]
fn equal_files_are_stored_once_on_xfs() {
    for hash in ALL {
        sharing_frees_space(&FileSystem::xfs(), hash);
    }
}

#[test]
#[ignore = "needs root"]
fn equal_files_are_stored_once_on_btrfs() {
    for hash in ALL {
        sharing_frees_space(&FileSystem::btrfs(), hash);
    }
}

#[test]
#[ignore = "needs root"]
fn names_of_one_file_and_odd_files_are_left_alone() {
    for fs in [FileSystem::xfs(), FileSystem::btrfs()] {
        let contents = random(64 * 1024, 5);
        let roots = fs.trees(&[("one/file", &contents), ("one/empty", b""), ("two/empty", b"")]);
        let [one, two] = ["one", "two"].map(|tree| fs.path().join(tree));
        fs::hard_link(one.join("file"), one.join("hard")).unwrap();
        fs::hard_link(one.join("file"), two.join("hard")).unwrap();
        std::os::unix::fs::symlink("file", one.join("link")).unwrap();
        nix::unistd::mkfifo(&two.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for tree in [&one, &two] {
            File::create_new(tree.join("holes")).unwrap().set_len(u64::pow(2, 40)).unwrap();
        }
        assert_eq!(dedup(&roots, DedupHash::Crc).unwrap(), 0);
        assert!(!fs.is_shared("one/file"));
        // The same tree twice is one tree.
        let twice = [roots[0].clone(), roots[0].clone()];
        fs::write(one.join("copy"), &contents).unwrap();
        assert_eq!(dedup(&twice, DedupHash::Crc).unwrap(), contents.len() as u64);
    }
}

#[test]
#[ignore = "needs root"]
fn thousands_of_files_are_shared_by_all_threads() {
    let fs = FileSystem::xfs();
    let contents: Vec<_> =
        (0..500).map(|number| random(4096 + 16 * (number % 50), 7 + number as u64)).collect();
    let mut files = Vec::new();
    for tree in ["a", "b", "c", "d"] {
        for (number, contents) in contents.iter().enumerate() {
            files.push((format!("{tree}/{}/{number}", number % 20), contents));
        }
    }
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, contents)| (path.as_str(), contents.as_slice())).collect();
    let roots = fs.trees(&files);
    let total: usize = contents.iter().map(Vec::len).sum();
    assert_eq!(dedup(&roots, DedupHash::Sha256).unwrap(), 3 * total as u64);
    for (path, contents) in files {
        assert!(fs::read(fs.path().join(path)).unwrap() == contents, "{path}");
    }
}

#[test]
#[ignore = "needs root"]
fn ext4_cannot_and_nothing_happens() {
    let fs = FileSystem::make("ext4", &["-q", "-F"]);
    let contents = random(100_000, 6);
    let roots = fs.trees(&[("one/file", &contents), ("two/file", &contents)]);
    for hash in ALL {
        assert_eq!(dedup(&roots, hash).unwrap(), 0);
    }
    assert_ne!(fs.first_block("one/file"), fs.first_block("two/file"));
}

#[test]
fn tmpfs_cannot_and_nothing_happens() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let files: [PathBuf; 2] = ["one", "two"].map(|name| dir.path().join(name));
    for file in &files {
        fs::write(file, b"the same").unwrap();
    }
    let root = RootDir::open(dir.path()).unwrap();
    for hash in ALL {
        assert_eq!(dedup(std::slice::from_ref(&root), hash).unwrap(), 0);
    }
    assert_eq!(dedup(&[], DedupHash::Crc).unwrap(), 0);
    assert!(files.iter().all(|file| fs::read(file).unwrap() == b"the same"));
}
