//! Configuring a file system before it is mounted, and what the kernel says about it.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::{fmt, ptr};

use libc::c_uint;
use nix::NixPath;
use nix::errno::Errno;

use super::{MountAttrFlags, owned_fd};

/// A file system being configured.
///
/// Set parameters, [`create`](Self::create) the file system once, then [`mount`](Self::mount) it once. Dropping the
/// context changes nothing that was mounted.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
}

impl FsContext {
    /// Starts with a file system type as `/proc/filesystems` names it. A module may be loaded for it.
    ///
    /// Linux 5.2. See [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html).
    ///
    /// # Errors
    ///
    /// `ENODEV` (no such type), `EPERM`, `ENOSYS`.
    #[doc(alias = "fsopen")]
    pub fn open<N: ?Sized + NixPath>(fs_type: &N) -> Result<Self, FsError> {
        let returned = fs_type.with_nix_path(|fs_type| {
            // SAFETY: the type ends in NUL and outlives the call.
            unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), libc::FSOPEN_CLOEXEC) }
        })?;
        // SAFETY: fsopen makes a descriptor, which was not looked at before.
        let fd = unsafe { owned_fd(returned) }?;
        Ok(Self { fd })
    }

    /// Gives parameter `key` a string. Nothing in it separates parameters; whether anything in it escapes is up to the
    /// file system: overlay takes `lowerdir+` and `datadir+` as they are, but removes a level of backslashes from `upperdir`
    /// and `workdir`.
    ///
    /// See [fsconfig(2)](https://man7.org/linux/man-pages/man2/fsconfig.2.html), as for all that follows here.
    ///
    /// # Errors
    ///
    /// `EINVAL` (the type has no such parameter, the value does not fit it, or it is longer than the 255 bytes that the kernel
    /// takes here), `ENOENT` where the value is a path, `EBUSY` (created already).
    #[doc(alias = "FSCONFIG_SET_STRING")]
    pub fn set_string<V: ?Sized + NixPath>(&self, key: &CStr, value: &V) -> Result<(), FsError> {
        value.with_nix_path(|value| self.config(Command::SetString { key, value }))?
    }

    /// Sets parameter `key`, which takes no value.
    ///
    /// # Errors
    ///
    /// As for [`set_string`](Self::set_string).
    #[doc(alias = "FSCONFIG_SET_FLAG")]
    pub fn set_flag(&self, key: &CStr) -> Result<(), FsError> {
        self.config(Command::SetFlag { key })
    }

    /// Gives parameter `key` an open file; the context keeps its own reference.
    ///
    /// Overlay takes layers so (`lowerdir+`, `datadir+`, `upperdir`, `workdir`) since Linux 6.13.
    ///
    /// # Errors
    ///
    /// `EBADF` (also, on some kernels, for an `O_PATH` descriptor), and as for [`set_string`](Self::set_string).
    #[doc(alias = "FSCONFIG_SET_FD")]
    pub fn set_fd(&self, key: &CStr, fd: impl AsFd) -> Result<(), FsError> {
        self.config(Command::SetFd { key, fd: fd.as_fd() })
    }

    /// Gives parameter `key` the file at `path` below `dir`, for the parameters that take a file by path (block devices).
    ///
    /// # Errors
    ///
    /// As for [`set_string`](Self::set_string).
    #[doc(alias = "FSCONFIG_SET_PATH")]
    pub fn set_path<P: ?Sized + NixPath>(&self, key: &CStr, dir: impl AsFd, path: &P) -> Result<(), FsError> {
        path.with_nix_path(|path| self.config(Command::SetPath { key, dir: dir.as_fd(), path }))?
    }

    /// Gives parameter `key` the file behind `fd`, of any kind, for the parameters that take a file by path.
    ///
    /// # Errors
    ///
    /// As for [`set_string`](Self::set_string).
    #[doc(alias = "FSCONFIG_SET_PATH_EMPTY")]
    pub fn set_path_fd(&self, key: &CStr, fd: impl AsFd) -> Result<(), FsError> {
        self.config(Command::SetPathEmpty { key, fd: fd.as_fd() })
    }

    /// Makes the file system, or finds one that exists with the same source, from the parameters set.
    ///
    /// # Errors
    ///
    /// What the file system says: `EINVAL`, `ENODEV`, `EROFS`, `ESTALE`, `ENOSPC`, ... A context that failed here is of no
    /// further use: `EBUSY` for all that follows.
    #[doc(alias = "FSCONFIG_CMD_CREATE")]
    pub fn create(&self) -> Result<(), FsError> {
        self.config(Command::Create)
    }

    /// A mount of the file system created, not attached anywhere: give it to [`move_mount`](super::move_mount()), or use it
    /// through the descriptor and let it vanish with it.
    ///
    /// See [fsmount(2)](https://man7.org/linux/man-pages/man2/fsmount.2.html).
    ///
    /// # Errors
    ///
    /// `EINVAL` (not created), `EBUSY` (mounted already), `EPERM` (attributes less strict than a user namespace requires).
    #[doc(alias = "fsmount")]
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, FsError> {
        // No attribute that this call takes is beyond 32 bits; one that is would be EINVAL.
        let attributes = c_uint::try_from(attributes.bits()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: no memory is involved.
        let returned = unsafe {
            libc::syscall(libc::SYS_fsmount, self.fd.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes)
        };
        // SAFETY: fsmount makes a descriptor, which was not looked at before.
        unsafe { owned_fd(returned) }.map_err(|errno| self.error(errno))
    }

    /// What the kernel has said since it was last asked, oldest first, without the letter for the severity. An error takes
    /// these along; after a success they are warnings and notes.
    ///
    /// The kernel keeps the last eight messages.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        // Each read gives one message; the end is ENODATA. No other error may hide the one being reported.
        while let Ok(bytes) = nix::unistd::read(&self.fd, &mut buffer) {
            let Some(message) = buffer.get(..bytes).filter(|message| !message.is_empty()) else { break };
            messages.push(text(message));
        }
        messages
    }

    fn config(&self, command: Command<'_>) -> Result<(), FsError> {
        let Arguments { command, key, value, aux } = command.arguments();
        // SAFETY: key and value are null, or end in NUL and are borrowed by `command` beyond the call.
        let returned =
            unsafe { libc::syscall(libc::SYS_fsconfig, self.fd.as_raw_fd(), command, key, value, aux) };
        Errno::result(returned).map(drop).map_err(|errno| self.error(errno))
    }

    fn error(&self, errno: Errno) -> FsError {
        FsError { errno, messages: self.messages() }
    }
}

impl AsFd for FsContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Why the kernel would not configure, create or mount a file system, in its own words where it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsError {
    /// The error number.
    pub errno: Errno,
    /// The messages of the context, oldest first, warnings included; such as `overlay: Unknown parameter 'x'`.
    pub messages: Vec<String>,
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.errno.desc())?;
        if !self.messages.is_empty() {
            write!(f, ": {}", self.messages.join("; "))?;
        }
        Ok(())
    }
}

impl std::error::Error for FsError {}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        Self { errno, messages: Vec::new() }
    }
}

/// A command of fsconfig, with what it takes.
#[derive(Clone, Copy)]
enum Command<'a> {
    SetFlag { key: &'a CStr },
    SetString { key: &'a CStr, value: &'a CStr },
    SetPath { key: &'a CStr, dir: BorrowedFd<'a>, path: &'a CStr },
    SetPathEmpty { key: &'a CStr, fd: BorrowedFd<'a> },
    SetFd { key: &'a CStr, fd: BorrowedFd<'a> },
    Create,
}

struct Arguments {
    command: c_uint,
    key: *const libc::c_char,
    value: *const libc::c_char,
    aux: RawFd,
}

impl Command<'_> {
    fn arguments(self) -> Arguments {
        let (command, key, value, aux) = match self {
            Self::SetFlag { key } => (libc::FSCONFIG_SET_FLAG, Some(key), None, 0),
            Self::SetString { key, value } => (libc::FSCONFIG_SET_STRING, Some(key), Some(value), 0),
            Self::SetPath { key, dir, path } => {
                (libc::FSCONFIG_SET_PATH, Some(key), Some(path), dir.as_raw_fd())
            }
            Self::SetPathEmpty { key, fd } => {
                (libc::FSCONFIG_SET_PATH_EMPTY, Some(key), Some(c""), fd.as_raw_fd())
            }
            Self::SetFd { key, fd } => (libc::FSCONFIG_SET_FD, Some(key), None, fd.as_raw_fd()),
            Self::Create => (libc::FSCONFIG_CMD_CREATE, None, None, 0),
        };
        let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
        Arguments { command, key: pointer(key), value: pointer(value), aux }
    }
}

/// A message as `fs_context.c` writes it, "e overlay: ...", without the letter.
fn text(message: &[u8]) -> String {
    let severity = [b"e ", b"w ", b"i "];
    let message = severity.iter().find_map(|letter| message.strip_prefix(*letter)).unwrap_or(message);
    String::from_utf8_lossy(message).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_taken_off() {
        let table = [
            (&b"e overlay: Unknown parameter 'x'"[..], "overlay: Unknown parameter 'x'"),
            (b"w warned\n", "warned"),
            (b"i \xff", "\u{fffd}"),
            (b"x other", "x other"),
            (b"e", "e"),
            (b"", ""),
        ];
        for (message, expected) in table {
            assert_eq!(text(message), expected);
        }
    }

    #[test]
    fn errors_read_well() {
        let error = FsError { errno: Errno::EINVAL, messages: vec!["one".into(), "two".into()] };
        assert_eq!(error.to_string(), "Invalid argument: one; two");
        assert_eq!(FsError::from(Errno::EPERM).to_string(), "Operation not permitted");
    }
}
