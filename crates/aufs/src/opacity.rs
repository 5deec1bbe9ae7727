//! What AUFS does not see by itself: it stacks a directory on any of the same name, past a file that lies between, and takes no notice of the mark that makes a branch's root opaque.
//!
//! A branch that was filled gets the whiteouts and marks that have AUFS show what the layer is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use graphdriver_archive::RootDir;
use graphdriver_archive::whiteout::{OPAQUE, PREFIX};
use graphdriver_core::{Error, Result};
use graphdriver_sys::FileType;
use graphdriver_sys::dents::{Buffer, Dents};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Adds to the branch what it takes above the branches `lowers`, the uppermost first.
///
/// # Errors
/// `NoSpace`; `Io`, `ENAMETOOLONG` among them, for a name that is too long to be hidden.
pub(crate) fn complete(branch: &RootDir, lowers: &[RootDir]) -> Result<()> {
    if has(branch, OPAQUE)? {
        keeping_times(branch, || hide_all(branch, lowers))
    } else {
        part_directories(branch, lowers)
    }
}

/// Makes what the mark of an opaque root stands for: a whiteout of every name below.
fn hide_all(branch: &RootDir, lowers: &[RootDir]) -> Result<()> {
    for lower in lowers {
        for (name, _) in entries(lower)? {
            match kind(branch, &name)? {
                Some(SFlag::S_IFDIR) => make_opaque(&branch.subdir(Path::new(&name))?)?,
                Some(_) => {}
                None => make(branch, &OsString::from_vec([PREFIX, name.as_bytes()].concat()))?,
            }
        }
    }
    unlinkat(branch, OsStr::from_bytes(OPAQUE), UnlinkatFlags::NoRemoveDir)
        .map_err(|errno| Error::syscall("unlinkat", branch.path(), errno))
}

/// Makes directories opaque that are in the place of another kind of file.
fn part_directories(dir: &RootDir, lowers: &[RootDir]) -> Result<()> {
    let mut pending = vec![(dir.clone(), lowers.to_vec())];
    while let Some((dir, lowers)) = pending.pop() {
        for (name, file_type) in entries(&dir)? {
            if !matches!(file_type, FileType::Directory | FileType::Unknown)
                || kind(&dir, &name)? != Some(SFlag::S_IFDIR)
            {
                continue;
            }
            let inner = dir.subdir(Path::new(&name))?;
            match below(&name, &lowers)? {
                Below::Other => make_opaque(&inner)?,
                Below::Directories(lowers) if !has(&inner, OPAQUE)? => pending.push((inner, lowers)),
                Below::Nothing | Below::Directories(_) => {}
            }
        }
    }
    Ok(())
}

/// What the branches below show by a name.
enum Below {
    Nothing,
    /// Something else than a directory.
    Other,
    /// Those that show together.
    Directories(Vec<RootDir>),
}

fn below(name: &OsStr, lowers: &[RootDir]) -> Result<Below> {
    let mut directories = Vec::new();
    for lower in lowers {
        match kind(lower, name)? {
            Some(SFlag::S_IFDIR) => directories.push(lower.subdir(Path::new(name))?),
            Some(_) if directories.is_empty() => return Ok(Below::Other),
            Some(_) => break,
            None => {}
        }
        let is_last = directories.last().map_or(Ok(false), |directory| has(directory, OPAQUE))?;
        if is_last || has(lower, &[PREFIX, name.as_bytes()].concat())? {
            break;
        }
    }
    Ok(if directories.is_empty() { Below::Nothing } else { Below::Directories(directories) })
}

/// The names in a directory of a branch, without AUFS's own.
fn entries(dir: &RootDir) -> Result<Vec<(OsString, FileType)>> {
    let (mut found, mut buffer) = (Vec::new(), Buffer::new());
    let mut entries = Dents::new(dir, &mut buffer);
    while let Some(entry) =
        entries.next_entry().map_err(|errno| Error::syscall("getdents64", dir.path(), errno))?
    {
        if !entry.name.to_bytes().starts_with(PREFIX) {
            found.push((entry.os_name().to_owned(), entry.file_type));
        }
    }
    Ok(found)
}

fn has(dir: &RootDir, name: &[u8]) -> Result<bool> {
    Ok(kind(dir, OsStr::from_bytes(name))?.is_some())
}

/// The kind of a file; `None` when there is none of this name.
fn kind(dir: &RootDir, name: &OsStr) -> Result<Option<SFlag>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)),
        // What is too long for a whiteout has none.
        Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(None),
        Err(errno) => Err(Error::syscall("fstatat", dir.path().join(name), errno)),
    }
}

fn make_opaque(dir: &RootDir) -> Result<()> {
    keeping_times(dir, || make(dir, OsStr::from_bytes(OPAQUE)))
}

/// An empty file, unless it is there.
fn make(dir: &RootDir, name: &OsStr) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map(drop)
        .map_err(|errno| Error::syscall("openat", dir.path().join(name), errno))
}

/// Does `work` in a directory, which then has the times that it had.
fn keeping_times(dir: &RootDir, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let failed = |call| move |errno| Error::syscall(call, dir.path(), errno);
    let stat = fstat(dir).map_err(failed("fstat"))?;
    work()?;
    let [accessed, modified] = [(stat.st_atime, stat.st_atime_nsec), (stat.st_mtime, stat.st_mtime_nsec)]
        .map(|(s, ns)| TimeSpec::new(s, ns));
    futimens(dir, &accessed, &modified).map_err(failed("futimens"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Makes files, and directories for what ends in a slash.
    fn branch(paths: &[&str]) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let place = dir.path().join(path);
            fs::create_dir_all(if path.ends_with('/') { &place } else { place.parent().unwrap() }).unwrap();
            if !path.ends_with('/') {
                fs::write(place, "").unwrap();
            }
        }
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    /// The files of a branch above others, after it was completed.
    fn completed(upper: &[&str], lowers: &[&[&str]]) -> Vec<String> {
        let (dir, root) = branch(upper);
        let (_dirs, lowers): (Vec<_>, Vec<_>) = lowers.iter().map(|lower| branch(lower)).unzip();
        complete(&root, &lowers).unwrap();
        let mut files = Vec::new();
        let mut pending = vec![dir.path().to_owned()];
        while let Some(place) = pending.pop() {
            for entry in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    pending.push(entry);
                } else {
                    files.push(entry.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        files.sort();
        files
    }

    #[test]
    fn directories_are_parted_from_those_below_a_file() {
        let opaque = ["a/d/.wh..wh..opq", "a/d/new"];
        assert_eq!(completed(&["a/d/new"], &[&["a/d"], &["a/d/old"]]), opaque);
        assert_eq!(completed(&["a/d/new"], &[&["a/other"], &["a/d"], &["a/d/old"]]), opaque);
        let plain = ["a/d/new"];
        assert_eq!(completed(&plain, &[]), plain);
        assert_eq!(completed(&plain, &[&["a/d/old"], &["a/d"]]), plain, "the file is hidden");
        assert_eq!(completed(&plain, &[&["a/.wh.d"], &["a/d"], &["a/d/old"]]), plain, "AUFS stops there");
        assert_eq!(completed(&plain, &[&["a/.wh..wh..opq"], &["a/d"]]), plain, "and here");
        assert_eq!(completed(&opaque, &[&["a/d"], &["a/d/old"]]), opaque);
        assert_eq!(completed(&["new"], &[&["new/old"]]), ["new"], "a file hides a directory");
    }

    #[test]
    fn an_opaque_root_hides_every_name() {
        let lowers: [&[&str]; 2] = [&["one", "both/lower", ".wh.gone"], &["two/", "file/lower"]];
        assert_eq!(
            completed(&[".wh..wh..opq", "both/upper", "file", "new"], &lowers),
            [".wh.one", ".wh.two", "both/.wh..wh..opq", "both/upper", "file", "new"]
        );
    }

    #[test]
    fn times_stay() {
        let (dir, root) = branch(&["d/new"]);
        let (_below, lower) = branch(&["d"]);
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_577_934_245, 5);
        fs::File::open(dir.path().join("d")).unwrap().set_modified(time).unwrap();
        complete(&root, &[lower]).unwrap();
        assert!(dir.path().join("d/.wh..wh..opq").exists());
        assert_eq!(fs::metadata(dir.path().join("d")).unwrap().modified().unwrap(), time);
    }
}
