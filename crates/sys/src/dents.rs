//! Reading a directory through its descriptor, with one buffer for many directories.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::Result;
use nix::errno::Errno;

use crate::{FileType, syscall};

/// Holds about a thousand short names; a directory of up to that many is read with two system calls.
const BUFFER_BYTES: usize = 32 * 1024;

/// Bytes of a `struct linux_dirent64` before the name: `d_ino`, `d_off`, `d_reclen`, `d_type`.
const HEADER_BYTES: usize = 19;

/// Room for entries as the kernel writes them: 32 KiB, to be lent to one [`Dents`] after the other.
pub struct Buffer(Box<[u8]>);

impl Buffer {
    /// A new buffer.
    pub fn new() -> Self {
        Self(vec![0; BUFFER_BYTES].into_boxed_slice())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.0.len()).finish()
    }
}

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The inode number as the directory has it. At a mount point this is the directory underneath, and on overlay it
    /// may differ from what [`statx`](crate::statx()) says.
    pub ino: u64,
    /// The kind of file, or [`FileType::Unknown`] where the file system does not keep it here.
    pub file_type: FileType,
    /// The name, one path component, in no particular encoding.
    pub name: &'a CStr,
}

impl<'a> Entry<'a> {
    /// The name as an operating system string.
    pub fn os_name(&self) -> &'a OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }
}

/// The entries of one directory, without `.` and `..`, in the order of the file system.
///
/// What is added or removed while reading may be seen or not. Reading moves the offset of the open file description,
/// so two readers of one directory need a descriptor each from its own `open`, not a duplicate.
#[derive(Debug)]
pub struct Dents<'buffer, Fd> {
    dir: Fd,
    buffer: &'buffer mut Buffer,
    /// The part of the buffer that holds entries not given out yet.
    start: usize,
    end: usize,
}

impl<'buffer, Fd: AsFd> Dents<'buffer, Fd> {
    /// Reads `dir`, a directory open for reading (not `O_PATH`), from where its offset stands.
    pub fn new(dir: Fd, buffer: &'buffer mut Buffer) -> Self {
        Self { dir, buffer, start: 0, end: 0 }
    }

    /// The next entry, or `None` at the end, which is also what a directory removed meanwhile has.
    ///
    /// See [getdents(2)](https://man7.org/linux/man-pages/man2/getdents.2.html).
    ///
    /// # Errors
    ///
    /// `EBADF` (not open for reading), `ENOTDIR`, `EIO`; `EBADMSG` when what the kernel gave is not a list of entries.
    #[doc(alias = "getdents64")]
    #[doc(alias = "readdir")]
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        let (at, record) = loop {
            if self.start == self.end && !self.fill()? {
                return Ok(None);
            }
            let at = self.start;
            let record = Record::parse(&self.buffer.0[at..self.end])?;
            self.start += record.bytes;
            if !matches!(record.name.to_bytes(), b"." | b"..") {
                break (at, record.bytes);
            }
        };
        // Parsed again because a borrow that is returned cannot also be carried through the loop.
        let Record { entry_ino: ino, d_type, name, .. } = Record::parse(&self.buffer.0[at..at + record])?;
        Ok(Some(Entry { ino, file_type: FileType::from_d_type(d_type), name }))
    }

    /// Starts again at the first entry, and sees what changed since.
    ///
    /// # Errors
    ///
    /// `EBADF` or `ESPIPE` when the descriptor is not a directory open for reading.
    #[doc(alias = "rewinddir")]
    pub fn rewind(&mut self) -> Result<()> {
        (self.start, self.end) = (0, 0);
        // SAFETY: changes the offset of a descriptor that is borrowed for the call; no memory is involved.
        let returned = unsafe { libc::lseek64(self.dir.as_fd().as_raw_fd(), 0, libc::SEEK_SET) };
        Errno::result(returned).map(drop)
    }

    /// False at the end of the directory.
    fn fill(&mut self) -> Result<bool> {
        let read = syscall::retry_on_interrupt(|| getdents64(self.dir.as_fd(), &mut self.buffer.0));
        // A removed directory has no entries, not even `.`; the kernel says so with an error.
        let bytes = match read {
            Err(Errno::ENOENT) => 0,
            read => read?,
        };
        (self.start, self.end) = (0, bytes.min(self.buffer.0.len()));
        Ok(bytes != 0)
    }
}

fn getdents64(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to it.
    let returned =
        unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    syscall::count(returned)
}

/// The first `struct linux_dirent64` of a buffer.
#[derive(Debug)]
struct Record<'a> {
    bytes: usize,
    entry_ino: u64,
    d_type: u8,
    name: &'a CStr,
}

impl<'a> Record<'a> {
    fn parse(buffer: &'a [u8]) -> Result<Self> {
        const MALFORMED: Errno = Errno::EBADMSG;
        let (ino, rest) = buffer.split_first_chunk::<8>().ok_or(MALFORMED)?;
        let (_offset, rest) = rest.split_first_chunk::<8>().ok_or(MALFORMED)?;
        let (bytes, rest) = rest.split_first_chunk::<2>().ok_or(MALFORMED)?;
        let (d_type, rest) = rest.split_first().ok_or(MALFORMED)?;
        let bytes = usize::from(u16::from_ne_bytes(*bytes));
        let name_bytes = bytes.checked_sub(HEADER_BYTES).ok_or(MALFORMED)?;
        let name = rest.get(..name_bytes).ok_or(MALFORMED)?;
        let name = CStr::from_bytes_until_nul(name).map_err(|_| MALFORMED)?;
        if name.is_empty() {
            return Err(MALFORMED);
        }
        Ok(Self { bytes, entry_ino: u64::from_ne_bytes(*ino), d_type: *d_type, name })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::{DirEntryExt, symlink};

    use super::*;
    use crate::test_dir;

    fn names(dents: &mut Dents<'_, impl AsFd>) -> BTreeSet<OsString> {
        let mut names = BTreeSet::new();
        while let Some(entry) = dents.next_entry().unwrap() {
            assert!(names.insert(entry.os_name().to_owned()), "{:?} came twice", entry.name);
        }
        names
    }

    #[test]
    fn ten_thousand_files_are_each_seen_once() {
        let dir = test_dir::on_tmpfs();
        let expected: BTreeSet<_> = (0..10_000).map(|n| OsString::from(format!("file-{n:05}"))).collect();
        for name in &expected {
            File::create(dir.path().join(name)).unwrap();
        }
        let mut buffer = Buffer::new();
        let mut dents = Dents::new(test_dir::open(dir.path()), &mut buffer);
        assert_eq!(names(&mut dents), expected);
        assert_eq!(dents.next_entry(), Ok(None));
    }

    #[test]
    fn one_buffer_serves_many_directories() {
        let (one, two) = (test_dir::on_disk(), test_dir::on_disk());
        fs::write(one.path().join("a-long-name-that-stays-in-the-buffer"), b"").unwrap();
        let mut buffer = Buffer::new();
        assert_eq!(names(&mut Dents::new(test_dir::open(one.path()), &mut buffer)).len(), 1);
        assert_eq!(names(&mut Dents::new(test_dir::open(two.path()), &mut buffer)).len(), 0);
    }

    #[test]
    fn names_are_bytes() {
        for dir in [test_dir::on_disk(), test_dir::on_tmpfs()] {
            let odd: BTreeSet<_> = [&b"\xff\xfe not utf-8"[..], b"new\nline", b" ", b"...", &[b'x'; 255]]
                .map(|name| OsString::from_vec(name.to_vec()))
                .into();
            for name in &odd {
                File::create(dir.path().join(name)).unwrap();
            }
            let mut buffer = Buffer::new();
            assert_eq!(names(&mut Dents::new(test_dir::open(dir.path()), &mut buffer)), odd);
        }
    }

    #[test]
    fn kinds_and_inodes_are_given() {
        let dir = test_dir::on_tmpfs();
        fs::create_dir(dir.path().join("directory")).unwrap();
        fs::write(dir.path().join("regular"), b"").unwrap();
        symlink("regular", dir.path().join("symlink")).unwrap();
        let inodes: BTreeSet<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().ino()).collect();
        let mut buffer = Buffer::new();
        let mut dents = Dents::new(test_dir::open(dir.path()), &mut buffer);
        let mut seen = BTreeSet::new();
        while let Some(entry) = dents.next_entry().unwrap() {
            let expected = match entry.name.to_bytes() {
                b"directory" => FileType::Directory,
                b"regular" => FileType::Regular,
                b"symlink" => FileType::Symlink,
                name => panic!("{name:?} was never made"),
            };
            assert_eq!(entry.file_type, expected);
            seen.insert(entry.ino);
        }
        assert_eq!(seen, inodes);
    }

    #[test]
    fn rewinding_shows_what_changed() {
        let dir = test_dir::on_tmpfs();
        fs::write(dir.path().join("first"), b"").unwrap();
        let mut buffer = Buffer::new();
        let mut dents = Dents::new(test_dir::open(dir.path()), &mut buffer);
        assert_eq!(names(&mut dents).len(), 1);
        fs::write(dir.path().join("second"), b"").unwrap();
        dents.rewind().unwrap();
        assert_eq!(names(&mut dents), ["first", "second"].map(OsString::from).into());
    }

    #[test]
    fn a_removed_directory_is_at_its_end() {
        let dir = test_dir::on_tmpfs();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let fd = test_dir::open(&gone);
        fs::remove_dir(&gone).unwrap();
        let mut buffer = Buffer::new();
        assert_eq!(Dents::new(fd, &mut buffer).next_entry(), Ok(None));
    }

    #[test]
    fn a_file_is_not_a_directory() {
        let dir = test_dir::on_tmpfs();
        fs::write(dir.path().join("file"), b"").unwrap();
        let mut buffer = Buffer::new();
        let mut dents = Dents::new(test_dir::open(&dir.path().join("file")), &mut buffer);
        assert_eq!(dents.next_entry(), Err(Errno::ENOTDIR));
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        fn record(bytes: u16, name: &[u8]) -> Vec<u8> {
            [&7_u64.to_ne_bytes()[..], &[0; 8], &bytes.to_ne_bytes(), &[libc::DT_REG], name].concat()
        }
        let good = record(24, b"abc\0\0");
        let parsed = Record::parse(&good).expect("well formed");
        assert_eq!((parsed.bytes, parsed.entry_ino, parsed.name), (24, 7, c"abc"));
        for length in 0..good.len() {
            assert!(Record::parse(&good[..length]).is_err(), "cut to {length} bytes");
        }
        let bad = [
            ("length zero", record(0, b"abc\0\0")),
            ("length below the header", record(18, b"abc\0\0")),
            ("no room for a name", record(19, b"abc\0\0")),
            ("length beyond the buffer", record(25, b"abc\0\0")),
            ("name without end", record(24, b"abcde")),
            ("empty name", record(24, b"\0\0\0\0\0")),
        ];
        for (what, bytes) in bad {
            assert!(Record::parse(&bytes).is_err(), "{what}");
        }
    }
}
