//! When what a layer holds is flushed to the device.

use std::fmt;
use std::os::fd::AsFd;
use std::str::FromStr;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::syncfs;

use crate::error::{Error, ErrorKind, Result};
use crate::fs_magic::retry_on_interrupt;

/// The driver option `sync`: whether contents survive a power cut that comes after a layer was filled.
///
/// Names, links and parents of layers are always flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "ParseSyncMode")]
pub enum SyncMode {
    /// Contents are left to the kernel, which writes them within half a minute or so.
    #[default]
    #[doc(alias = "SyncModeNone")]
    None,
    /// The file system is flushed before a filled layer counts as complete.
    #[doc(alias = "SyncModeFilesystem")]
    Filesystem,
}

impl SyncMode {
    /// Flushes the file system that the directory `dir` lies on, if this mode asks for it; `dir` may be open with `O_PATH`.
    ///
    /// # Errors
    /// `NoSpace`, `Io`: the data of some file is lost, this layer's or another's. See `syncfs(2)`.
    pub fn flush(self, dir: impl AsFd) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Filesystem => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let readable = openat(dir.as_fd(), ".", flags, Mode::empty())
                    .map_err(|errno| Error::call("openat", errno))?;
                retry_on_interrupt(|| syncfs(readable.as_fd())).map_err(|errno| Error::call("syncfs", errno))
            }
        }
    }
}

impl FromStr for SyncMode {
    type Err = Error;

    /// # Errors
    /// `InvalidArgument` for a word that is none of `none`, `filesystem` (in any case) and the empty one, which is `none`.
    fn from_str(text: &str) -> Result<Self> {
        match &*text.trim().to_lowercase() {
            "" | "none" => Ok(Self::None),
            "filesystem" => Ok(Self::Filesystem),
            _ => Err(Error::new(ErrorKind::InvalidArgument, "parse sync mode")
                .detail(format!("invalid sync mode: {text:?}; known modes are: none, filesystem"))),
        }
    }
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Filesystem => "filesystem",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, mode) in [
            ("", SyncMode::None),
            (" None ", SyncMode::None),
            ("filesystem", SyncMode::Filesystem),
            ("FILESYSTEM\n", SyncMode::Filesystem),
        ] {
            assert_eq!(text.parse::<SyncMode>().unwrap(), mode, "{text:?}");
            assert_eq!(mode.to_string().parse::<SyncMode>().unwrap(), mode);
        }
        let error = "file".parse::<SyncMode>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn flushing_works_where_files_are() {
        let by_path = nix::fcntl::open("/dev/shm", OFlag::O_PATH, Mode::empty()).unwrap();
        SyncMode::Filesystem.flush(by_path).unwrap();
        let no_directory = std::fs::File::open("/dev/null").unwrap();
        SyncMode::None.flush(&no_directory).unwrap();
        assert!(SyncMode::Filesystem.flush(&no_directory).is_err());
    }
}
