//! Steps of edit scripts, as containers and those who would deceive a comparison make them.

use std::ffi::CString;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use graphdriver_sys::clone_file;
use graphdriver_sys::xattr::{self, SetFlags};
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use proptest::prelude::*;

/// One step. Places are numbers, so that scripts hit the same names often.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Write(usize, u8, Size),
    /// In place, of the same size, and the old times put back.
    Forge(usize, u8),
    /// As `Forge`, but by a new file under the old name.
    ForgeAnew(usize, u8),
    /// The same bytes again.
    Rewrite(usize),
    Append(usize, u8),
    PunchHole(usize, u16),
    Truncate(usize, u16),
    Clone(usize, usize),
    MakeDir(usize),
    Remove(usize),
    Rename(usize, usize),
    Swap(usize, usize),
    HardLink(usize, usize),
    Symlink(usize, u8),
    /// Which opens and reads like an empty file.
    Null(usize),
    Chmod(usize, u32),
    Chown(usize, u32),
    SetXattr(usize, u8),
    RemoveXattr(usize),
    /// Times of a file or directory put to a fixed moment.
    SetTime(usize, u8),
    /// Time of access only.
    Access(usize),
    /// Many names at once, more than one block of the tree holds.
    Crowd(usize, u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Inline,
    Blocks,
}

/// Four names on three levels, each of which can be a file now and a directory later.
pub(crate) const PLACES: usize = 3 + 9 + 27;

pub(crate) fn place(root: &Path, number: usize) -> PathBuf {
    let name = |digit: usize| ["a", "b", "c"][digit % 3];
    match number {
        0..3 => root.join(name(number)),
        3..12 => root.join(name((number - 3) / 3)).join(name(number - 3)),
        _ => {
            let number = number - 12;
            root.join(name(number / 9)).join(name(number / 3)).join(name(number))
        }
    }
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    let place = || prop_oneof![2 => 0..3_usize, 3 => 3..12_usize, 2 => 12..PLACES];
    let size = prop_oneof![3 => Just(Size::Inline), 1 => Just(Size::Blocks)];
    let pair = || (place(), place());
    let seeded = || (place(), any::<u8>());
    prop_oneof![
        6 => (place(), any::<u8>(), size).prop_map(|(at, seed, size)| Edit::Write(at, seed, size)),
        3 => seeded().prop_map(|(at, seed)| Edit::Forge(at, seed)),
        2 => seeded().prop_map(|(at, seed)| Edit::ForgeAnew(at, seed)),
        1 => place().prop_map(Edit::Rewrite),
        1 => seeded().prop_map(|(at, seed)| Edit::Append(at, seed)),
        2 => (place(), any::<u16>()).prop_map(|(at, from)| Edit::PunchHole(at, from)),
        1 => (place(), any::<u16>()).prop_map(|(at, bytes)| Edit::Truncate(at, bytes)),
        1 => pair().prop_map(|(from, to)| Edit::Clone(from, to)),
        6 => place().prop_map(Edit::MakeDir),
        4 => place().prop_map(Edit::Remove),
        4 => pair().prop_map(|(from, to)| Edit::Rename(from, to)),
        3 => pair().prop_map(|(one, other)| Edit::Swap(one, other)),
        4 => pair().prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => seeded().prop_map(|(at, seed)| Edit::Symlink(at, seed)),
        1 => place().prop_map(Edit::Null),
        2 => (place(), 0o500_u32..0o1000).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        1 => (place(), 0_u32..3).prop_map(|(at, owner)| Edit::Chown(at, owner)),
        2 => seeded().prop_map(|(at, seed)| Edit::SetXattr(at, seed)),
        1 => place().prop_map(Edit::RemoveXattr),
        2 => seeded().prop_map(|(at, seed)| Edit::SetTime(at, seed)),
        1 => place().prop_map(Edit::Access),
        1 => seeded().prop_map(|(at, seed)| Edit::Crowd(at, seed)),
    ]
}

impl Edit {
    /// Carries the step out; one that makes no sense on the present tree (a missing directory, a file in the way) does nothing.
    pub(crate) fn run(&self, root: &Path) {
        drop(self.attempt(&|number| place(root, number)));
    }

    fn attempt(&self, at: &dyn Fn(usize) -> PathBuf) -> std::io::Result<()> {
        match *self {
            Self::Write(place, seed, Size::Inline) => fs::write(at(place), vec![seed; usize::from(seed)]),
            Self::Write(place, seed, Size::Blocks) => {
                fs::write(at(place), vec![seed; 3 * 4096 + usize::from(seed)])
            }
            Self::Forge(place, seed) => forge(&at(place), seed, false),
            Self::ForgeAnew(place, seed) => forge(&at(place), seed, true),
            Self::Rewrite(place) => fs::read(at(place)).and_then(|bytes| overwrite(&at(place), &bytes)),
            Self::Append(place, seed) => {
                let file = OpenOptions::new().write(true).open(at(place))?;
                file.write_all_at(&[seed], file.metadata()?.len())
            }
            Self::PunchHole(place, from) => {
                let file = OpenOptions::new().write(true).open(at(place))?;
                let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                Ok(fallocate(file, flags, (from % 4 * 4096).into(), 4096)?)
            }
            Self::Truncate(place, bytes) => {
                OpenOptions::new().write(true).open(at(place))?.set_len(u64::from(bytes % 16_384))
            }
            Self::Clone(from, to) => {
                let from = File::open(at(from))?;
                Ok(clone_file(OpenOptions::new().write(true).open(at(to))?, from)?)
            }
            Self::MakeDir(place) => fs::create_dir(at(place)),
            Self::Remove(place) => {
                let path = at(place);
                if path.symlink_metadata()?.is_dir() { remove_tree(&path) } else { fs::remove_file(path) }
            }
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Swap(one, other) => {
                let (one, other) = (at(one), at(other));
                Ok(renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE)?)
            }
            Self::HardLink(from, to) => fs::hard_link(at(from), at(to)),
            Self::Symlink(place, seed) => symlink(format!("target-{seed}"), at(place)),
            Self::Null(place) => Ok(mknod(&at(place), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3))?),
            Self::Chmod(place, mode) if !at(place).symlink_metadata()?.is_symlink() => {
                fs::set_permissions(at(place), Permissions::from_mode(mode))
            }
            Self::Chmod(..) => Ok(()),
            Self::Chown(place, owner) => lchown(at(place), Some(owner), Some(owner)),
            Self::SetXattr(place, seed) => with_parent(&at(place), |dir, name| {
                xattr::set_at(dir, name, "user.test", &[seed], SetFlags::empty())
            }),
            Self::RemoveXattr(place) => {
                with_parent(&at(place), |dir, name| xattr::remove_at(dir, name, "user.test"))
            }
            Self::SetTime(place, seed) => set_modified(&at(place), TimeSpec::new(1_700_000_000, seed.into())),
            Self::Access(place) => {
                let times = (TimeSpec::new(1_600_000_000, 0), TimeSpec::UTIME_OMIT);
                Ok(utimensat(AT_FDCWD, &at(place), &times.0, &times.1, UtimensatFlags::NoFollowSymlink)?)
            }
            Self::Crowd(place, seed) => {
                let dir = at(place);
                for number in 0..usize::from(seed) {
                    fs::write(dir.join(format!("{number}-{}", "n".repeat(usize::from(seed) % 200))), [seed])?;
                }
                Ok(())
            }
        }
    }
}

/// Other contents of the same size, with nothing in the metadata that tells, by an edit in place or a new file.
fn forge(path: &Path, seed: u8, anew: bool) -> std::io::Result<()> {
    let before = path.symlink_metadata()?;
    if !before.is_file() {
        return Ok(());
    }
    let bytes = vec![seed; usize::try_from(before.len()).unwrap()];
    if anew {
        let other = path.with_extension("new");
        fs::write(&other, &bytes)?;
        fs::set_permissions(&other, before.permissions())?;
        lchown(&other, Some(before.uid()), Some(before.gid()))?;
        fs::rename(&other, path)?;
    } else {
        overwrite(path, &bytes)?;
    }
    File::open(path)?.set_times(FileTimes::new().set_modified(before.modified()?))
}

fn overwrite(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all_at(bytes, 0)
}

fn set_modified(path: &Path, time: TimeSpec) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    Ok(utimensat(AT_FDCWD, path.as_c_str(), &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)?)
}

fn with_parent(
    path: &Path,
    work: impl FnOnce(&File, &std::ffi::OsStr) -> nix::Result<()>,
) -> std::io::Result<()> {
    let dir = File::open(path.parent().unwrap())?;
    Ok(work(&dir, path.file_name().unwrap())?)
}

#[expect(clippy::disallowed_methods, reason = "a tree that the test made, in which nothing is mounted")]
fn remove_tree(path: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(path)
}
