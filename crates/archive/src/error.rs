//! What can go wrong in this crate, and where.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use nix::errno::Errno;

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is; decides what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The archive is truncated, corrupt, or says something that no archive may say.
    InvalidArchive,
    /// An entry's name or link target leaves the root that the archive is unpacked into.
    PathEscape,
    /// An argument does not make sense: an id map with holes where none are allowed, an empty path.
    InvalidArgument,
    /// The file system is full, or a quota is used up (`ENOSPC`, `EDQUOT`).
    NoSpace,
    /// The kernel refused for lack of a capability or permission (`EPERM`, `EACCES`).
    PermissionDenied,
    /// The file system or kernel has no such feature (`EOPNOTSUPP`, `ENOSYS`).
    NotSupported,
    /// Any other failure of a system call.
    Io,
}

impl ErrorKind {
    /// The kind that a failed system call's error number stands for.
    pub fn of_errno(errno: Errno) -> Self {
        match errno {
            Errno::ENOSPC | Errno::EDQUOT => Self::NoSpace,
            Errno::EPERM | Errno::EACCES | Errno::EROFS => Self::PermissionDenied,
            Errno::EOPNOTSUPP | Errno::ENOSYS => Self::NotSupported,
            _ => Self::Io,
        }
    }

    /// The kind that an I/O error stands for; one that carries an [`Error`] of this crate, or has one among its causes, keeps that error's kind.
    pub fn of_io(error: &io::Error) -> Self {
        let mut next = error.get_ref().map(|inner| inner as &(dyn StdError + 'static));
        while let Some(cause) = next {
            if let Some(error) = cause.downcast_ref::<Error>() {
                return error.kind();
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                return Self::of_io(error);
            }
            next = cause.source();
        }
        error.raw_os_error().map_or(Self::Io, |number| Self::of_errno(Errno::from_raw(number)))
    }
}

/// A failure: its kind, the operation that failed, the path inside the root (or of the root itself), and the cause.
///
/// `Display` prints operation, path and detail; the cause (the kernel's text) is in [`source`](StdError::source) only.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    path: Option<PathBuf>,
    detail: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure without a system call behind it.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, operation: operation.into(), path: None, detail: None, source: None }))
    }

    /// A malformed archive; `detail` says what is wrong with it.
    pub fn invalid_archive(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArchive, "read archive").detail(detail)
    }

    /// The failure of the system call `operation` on `path`.
    pub fn syscall(operation: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self::new(ErrorKind::of_errno(errno), operation).path(path).source(io::Error::from(errno))
    }

    /// The failure of reading or writing a stream.
    pub fn io(operation: &'static str, error: io::Error) -> Self {
        Self::new(ErrorKind::of_io(&error), operation).source(error)
    }

    /// Names the path that the operation was about.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_owned());
        self
    }

    /// Adds what is known beyond operation and path.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path that the failure is about, relative to the root where it lies in one.
    pub fn failed_path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The error number of the system call at the bottom of this failure, if one is.
    pub fn errno(&self) -> Option<Errno> {
        let source = self.0.source.as_deref()?.downcast_ref::<io::Error>()?;
        source.raw_os_error().map(Errno::from_raw)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.operation)?;
        if let Some(path) = &self.0.path {
            write!(f, " {path:?}")?;
        }
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("path", &self.0.path)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_follows_errno_and_survives_io_error() {
        let error = Error::syscall("mkdirat", "a/b", Errno::ENOSPC);
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(error.to_string(), "mkdirat \"a/b\"");
        let wrapped = io::Error::from(error);
        assert_eq!(ErrorKind::of_io(&wrapped), ErrorKind::NoSpace);
    }
}
