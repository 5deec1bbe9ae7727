//! What is mounted, as `/proc/thread-self/mountinfo` tells it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorKind, Result};

const PATH: &str = "/proc/thread-self/mountinfo";

/// One mount of the calling thread's mount namespace; see [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The id of the mount, used again after it is gone.
    pub id: u64,
    /// The id of the mount that this one is mounted on.
    pub parent_id: u64,
    /// Major and minor number of the file system's device, as in `st_dev` of its files (btrfs and overlay differ).
    pub device: (u32, u32),
    /// What of the file system is mounted: `/`, or a directory or file in it for a bind mount.
    pub root: PathBuf,
    /// Where, as seen from the process's root directory.
    pub mount_point: PathBuf,
    /// Options of the mount, separated by commas.
    pub options: OsString,
    /// How mount events propagate: `shared:7`, `master:3`, ...; none for a private mount.
    pub propagation: Vec<OsString>,
    /// The type of the file system, `type` or `type.subtype`.
    pub fs_type: OsString,
    /// The device, dataset or whatever the file system has for a source.
    pub source: OsString,
    /// Options of the file system, separated by commas.
    pub super_options: OsString,
}

impl MountEntry {
    /// Whether mounts below appear in other mount namespaces too.
    pub fn is_shared(&self) -> bool {
        self.propagation.iter().any(|field| field.as_bytes().starts_with(b"shared:"))
    }
}

/// All mounts, in the order in which the kernel lists them: one that is mounted on another comes after it.
///
/// # Errors
/// `Io` when `/proc` is not mounted, or has something else than the format says.
pub fn mounts() -> Result<Vec<MountEntry>> {
    parse(&fs::read(PATH).map_err(|error| Error::io("read", PATH, error))?)
}

/// All mounts of the mount namespace of another process.
///
/// # Errors
/// `Io` when the process has ended; `PermissionDenied` when it may not be looked at.
pub fn mounts_of(pid: u32) -> Result<Vec<MountEntry>> {
    let path = format!("/proc/{pid}/mountinfo");
    parse(&fs::read(&path).map_err(|error| Error::io("read", &path, error))?)
}

/// Whether something is mounted at `path`, according to the table.
///
/// Works where the file system at `path` cannot be asked because its server hangs. Symbolic links before the last component are followed.
///
/// # Errors
/// As [`mounts`]; `false` for a path that does not exist.
#[doc(alias = "Mounted")]
pub fn is_mounted(path: impl AsRef<Path>) -> Result<bool> {
    let Some(path) = kernel_path(path.as_ref())? else { return Ok(false) };
    Ok(mounts()?.iter().any(|mount| mount.mount_point == path))
}

/// The mounts below the directory `path`, without one at `path` itself; to be unmounted in reverse order.
///
/// # Errors
/// As [`mounts`]; none for a path that does not exist.
pub fn mounts_below(path: impl AsRef<Path>) -> Result<Vec<MountEntry>> {
    let Some(path) = kernel_path(path.as_ref())? else { return Ok(Vec::new()) };
    let mut mounts = mounts()?;
    mounts.retain(|mount| mount.mount_point.starts_with(&path) && mount.mount_point != path);
    Ok(mounts)
}

/// The path in the form that the table has: absolute, without symbolic links before the last component; `None` when its directory does not exist.
fn kernel_path(path: &Path) -> Result<Option<PathBuf>> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        // The root directory, or a path that ends in `..`: then all of it is what a directory is.
        return real_path(path);
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok(real_path(parent)?.map(|parent| parent.join(name)))
}

fn real_path(dir: &Path) -> Result<Option<PathBuf>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = match open(dir, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(Error::syscall("open", dir, errno)),
    };
    let link = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
    readlink(&*link).map(|path| Some(path.into())).map_err(|errno| Error::syscall("readlink", link, errno))
}

fn parse(table: &[u8]) -> Result<Vec<MountEntry>> {
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line).ok_or_else(|| {
                let line = String::from_utf8_lossy(line);
                Error::new(ErrorKind::Io, "parse mount table").path(PATH).detail(format!("odd line {line:?}"))
            })
        })
        .collect()
}

/// `36 35 98:0 /root /mount\040point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    // One space each: the source can be empty.
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent_id = number(fields.next()?)?;
    let (major, minor) = str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(fields.next()?).into();
    let mount_point = unescape(fields.next()?).into();
    let options = unescape(fields.next()?);
    let propagation = fields.by_ref().take_while(|field| *field != b"-").map(unescape).collect();
    let fs_type = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    let super_options = unescape(fields.next()?);
    Some(MountEntry {
        id,
        parent_id,
        device,
        root,
        mount_point,
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    str::from_utf8(field).ok()?.parse().ok()
}

/// Takes `\040` and the like back to the bytes that they stand for.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let mut byte = *first;
        if byte == b'\\'
            && let Some((digits, after)) = after.split_first_chunk()
            && let Some(escaped) = octal(*digits)
        {
            byte = escaped;
            rest = after;
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    if !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    u8::from_str_radix(str::from_utf8(&digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn lines() {
        let table = b"36 35 98:0 /mnt1 /mnt\\040two rw,noatime shared:1 master:22 - ext3 /dev/root rw,errors=continue\n\
            37 36 0:45 / /a\\011b\\012c\\134d\\043e rw - fuse.sshfs  rw,user_id=0\n";
        let mounts = parse(table).unwrap();
        assert_eq!(
            mounts[0],
            MountEntry {
                id: 36,
                parent_id: 35,
                device: (98, 0),
                root: "/mnt1".into(),
                mount_point: "/mnt two".into(),
                options: "rw,noatime".into(),
                propagation: vec!["shared:1".into(), "master:22".into()],
                fs_type: "ext3".into(),
                source: "/dev/root".into(),
                super_options: "rw,errors=continue".into(),
            }
        );
        assert!(mounts[0].is_shared() && !mounts[1].is_shared());
        assert_eq!(mounts[1].mount_point, Path::new("/a\tb\nc\\d#e"));
        assert_eq!((&*mounts[1].source, &*mounts[1].super_options), ("".as_ref(), "rw,user_id=0".as_ref()));
        assert_eq!(mounts.len(), 2);
    }

    #[test]
    fn bytes_that_are_no_escape_stay() {
        let table: [(&[u8], &[u8]); 6] = [
            (b"\\", b"\\"),
            (b"a\\04", b"a\\04"),
            (b"\\08x", b"\\08x"),
            (b"\\777", b"\\777"),
            (b"\\134040", b"\\040"),
            (b"\xff\\377", b"\xff\xff"),
        ];
        for (field, bytes) in table {
            assert_eq!(unescape(field), OsStr::from_bytes(bytes), "{field:?}");
        }
    }

    #[test]
    fn odd_tables_are_refused() {
        for table in [
            "x",
            "36 35 98:0 / /mnt rw",
            "36 35 98:0 / /mnt rw - ext4 /dev/x",
            "36 35 98 / /mnt rw - ext4 /dev/x rw",
        ] {
            assert_eq!(parse(table.as_bytes()).unwrap_err().kind(), ErrorKind::Io, "{table}");
        }
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn this_machine() {
        assert!(mounts().unwrap().iter().any(|mount| mount.fs_type == "proc"));
        assert!(is_mounted("/proc").unwrap() && is_mounted("/").unwrap());
        assert!(!is_mounted("/proc/self").unwrap() && !is_mounted("/nonexistent/dir").unwrap());
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("link")).unwrap();
        assert!(is_mounted(temp.path().join("link/proc")).unwrap(), "links on the way are followed");
        assert!(mounts_below("/").unwrap().iter().any(|mount| mount.mount_point == Path::new("/proc")));
        assert!(mounts_below("/proc").unwrap().iter().all(|mount| mount.mount_point != Path::new("/proc")));
        assert_eq!(mounts_below(temp.path()).unwrap(), []);
    }
}
