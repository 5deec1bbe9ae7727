//! What was written to subvolumes, put into their trees.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use graphdriver_archive::RootDir;
use graphdriver_core::{Error, Result};
use graphdriver_sys::btrfs::item::{self, Inode};
use graphdriver_sys::btrfs::search::{self, Buffer, Key, Range, Search, TREE_OF_FILE};
use graphdriver_sys::btrfs::subvolume::{self, SubvolumeFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::write;

use crate::home::LAYERS;

/// Returns when the contents of the files of both subvolumes, and what the file system holds back of names and metadata, are in its trees, if not on the disk.
///
/// Where that cannot be done (no space, a file system that is not to be written to, an old kernel), all that was written to the file system, by whomever, is written to the disk (`BTRFS_IOC_SYNC`), which takes longer.
///
/// # Errors
/// `NoSpace`; `Io`.
pub(crate) fn flush(home: &Path, subvolumes: [&RootDir; 2]) -> Result<()> {
    let flushed = put_into_trees(&RootDir::open(home)?, subvolumes);
    if flushed == Ok(true) {
        return Ok(());
    }
    tracing::debug!(?flushed, "the whole file system is flushed instead");
    let [one, _] = subvolumes;
    search::commit(one).map_err(|errno| Error::syscall("sync", one.path(), errno))
}

/// False where this kernel goes about it in another way.
fn put_into_trees(home: &RootDir, subvolumes: [&RootDir; 2]) -> nix::Result<bool> {
    Ok(write_contents(home, subvolumes)? && end_transaction(home)?)
}

/// Has the contents of the subvolumes' files written; false when they may not have been.
///
/// That is what making a snapshot begins with, from Linux 5.9 on also when its name is taken, so that nothing is made. This is not taken on trust: the contents of a file that is the last one written to before have
/// to be in the tree afterwards.
fn write_contents(home: &RootDir, subvolumes: [&RootDir; 2]) -> nix::Result<bool> {
    let last = unnamed_file(subvolumes[0])?;
    write(&last, b"last")?;
    for subvolume in subvolumes {
        match subvolume::snapshot(home, LAYERS, subvolume, SubvolumeFlags::READ_ONLY) {
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
            // Somebody removed the home.
            Ok(()) => {
                subvolume::destroy(home, LAYERS)?;
                return Ok(false);
            }
        }
    }
    let contents = items(&last, item::EXTENT_DATA)?;
    Ok(Search::new(&last, contents, &mut Buffer::new()).at_most(1).next_item()?.is_some())
}

/// Ends the current transaction, and waits until its trees are complete in memory: they are on their way to the disk then, and what is changed from then on belongs to a later transaction; false when it does not.
fn end_transaction(home: &RootDir) -> nix::Result<bool> {
    let ended = search::start_commit(home)?;
    // A transaction cannot begin before that.
    let later = unnamed_file(home)?;
    let inode = items(&later, item::INODE_ITEM)?;
    match Search::new(&later, inode, &mut Buffer::new()).at_most(1).next_item()? {
        Some(found) => Ok(Inode::parse(found.data)?.created_at > ended),
        None => Ok(false),
    }
}

/// A file that goes when it is closed, and that never shows in the directory.
fn unnamed_file(dir: &RootDir) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(dir, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// Those of one type that are about a file.
fn items(file: impl AsFd, item_type: u8) -> nix::Result<Range> {
    let object = fstat(file)?.st_ino;
    let [first, last] = [0, u64::MAX].map(|offset| Key { object, item_type, offset });
    Ok(Range { tree: TREE_OF_FILE, first, last, since: 0 })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::test_volume::TestVolume;

    /// A home with two layers on a file system, and a file beside it that is not on the disk.
    struct Fixture {
        volume: TestVolume,
        roots: [RootDir; 2],
        beside: File,
    }

    impl Fixture {
        fn new() -> Self {
            let volume = TestVolume::new("");
            let layers = volume.path().join(LAYERS);
            fs::create_dir(&layers).unwrap();
            let roots = ["layer", "base"].map(|name| {
                subvolume::create(File::open(&layers).unwrap(), name).unwrap();
                RootDir::open(layers.join(name)).unwrap()
            });
            let beside = volume.path().join("beside");
            fs::write(&beside, "contents").unwrap();
            Self { volume, roots, beside: File::open(beside).unwrap() }
        }

        fn home(&self) -> RootDir {
            RootDir::open(self.volume.path()).unwrap()
        }

        fn roots(&self) -> [&RootDir; 2] {
            self.roots.each_ref()
        }

        /// Files in both layers with contents that are not in the trees.
        fn write(&self) -> [File; 2] {
            self.roots.each_ref().map(|root| {
                let path = root.path().join("file");
                fs::write(&path, "contents").unwrap();
                let file = File::open(path).unwrap();
                assert!(!has_contents_in_tree(&file), "btrfs writes contents late");
                file
            })
        }
    }

    fn has_contents_in_tree(file: &File) -> bool {
        let range = items(file, item::EXTENT_DATA).unwrap();
        Search::new(file, range, &mut Buffer::new()).next_item().unwrap().is_some()
    }

    #[test]
    #[ignore = "needs root"]
    fn writes_what_is_in_both_and_no_more() {
        let fixture = Fixture::new();
        let files = fixture.write();
        assert_eq!(put_into_trees(&fixture.home(), fixture.roots()), Ok(true), "Linux 5.9");
        assert!(files.iter().all(has_contents_in_tree));
        assert!(!has_contents_in_tree(&fixture.beside), "is no business of theirs");
        assert_eq!(fs::read_dir(fixture.volume.path()).unwrap().count(), 2);
    }

    #[test]
    #[ignore = "needs root"]
    fn writes_everything_where_nothing_can_be_made() {
        let fixture = Fixture::new();
        let files = fixture.write();
        subvolume::set_flags(&fixture.roots[0], SubvolumeFlags::READ_ONLY).unwrap();
        assert_eq!(put_into_trees(&fixture.home(), fixture.roots()), Err(Errno::EROFS));
        flush(fixture.volume.path(), fixture.roots()).unwrap();
        assert!(files.iter().all(has_contents_in_tree));
        assert!(has_contents_in_tree(&fixture.beside));
    }

    #[test]
    #[ignore = "needs root"]
    fn makes_nothing_in_a_home_that_is_gone() {
        let fixture = Fixture::new();
        let home = fixture.volume.path().join("home");
        fs::create_dir(&home).unwrap();
        assert_eq!(put_into_trees(&RootDir::open(&home).unwrap(), fixture.roots()), Ok(false));
        assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
        flush(&home, fixture.roots()).unwrap();
    }
}
