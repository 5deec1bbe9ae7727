//! What can go wrong, with which layer and where.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use graphdriver_archive as archive;
use graphdriver_sys::mount_api::FsError;
use nix::errno::Errno;

use crate::layer_id::LayerId;

/// Result of every operation on layers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is left to do on a file system that cannot be written to, as one that the kernel found damaged.
const READ_ONLY: &str =
    "the file system is mounted read-only: its layers can be read, not changed; remount it read-write first";

/// What kind of failure an [`Error`] is; decides what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The kernel, or this program as compiled, has no such driver or feature. Automatic selection goes on to the next driver.
    #[doc(alias = "ErrNotSupported")]
    NotSupported,
    /// What the driver needs is not here: another file system, a device, a program. Automatic selection goes on.
    #[doc(alias = "ErrPrerequisites")]
    Prerequisites,
    /// The file system below the home cannot carry this driver. Automatic selection goes on.
    #[doc(alias = "ErrIncompatibleFS")]
    IncompatibleFs,
    /// There is no layer with this id.
    #[doc(alias = "ErrLayerUnknown")]
    LayerUnknown,
    /// The layer that was named as parent or template does not exist.
    ParentUnknown,
    /// A layer with this id exists already.
    LayerExists,
    /// The layer is mounted, or other layers are built on it.
    LayerInUse,
    /// An option, id or argument does not make sense.
    InvalidArgument,
    /// The archive is truncated, corrupt, or says something that no archive may say.
    InvalidArchive,
    /// A name or link in the archive leads out of the layer.
    PathEscape,
    /// The file system is full, or a quota is used up.
    NoSpace,
    /// The kernel refused for lack of a capability or permission.
    PermissionDenied,
    /// A program that the driver runs failed.
    Command,
    /// Any other failure of a system call.
    Io,
}

impl ErrorKind {
    /// Whether automatic selection skips a driver that fails so.
    #[doc(alias = "IsDriverNotSupported")]
    #[doc(alias = "ErrUnSupported")]
    #[doc(alias = "NotSupported")]
    pub fn is_unsupported(self) -> bool {
        matches!(self, Self::NotSupported | Self::Prerequisites | Self::IncompatibleFs)
    }
}

impl From<archive::ErrorKind> for ErrorKind {
    fn from(kind: archive::ErrorKind) -> Self {
        match kind {
            archive::ErrorKind::InvalidArchive => Self::InvalidArchive,
            archive::ErrorKind::PathEscape => Self::PathEscape,
            archive::ErrorKind::InvalidArgument => Self::InvalidArgument,
            archive::ErrorKind::NoSpace => Self::NoSpace,
            archive::ErrorKind::PermissionDenied => Self::PermissionDenied,
            archive::ErrorKind::NotSupported => Self::NotSupported,
            _ => Self::Io,
        }
    }
}

/// A failure: its kind, what was being done, by which driver, to which layer and path, and the cause.
///
/// `Display` prints one line without the cause; the cause, down to the kernel's own text, is in [`source`](StdError::source).
/// [`report`](Self::report) prints the whole chain.
#[doc(alias = "NotSupportedError")]
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    driver: Option<String>,
    layer: Option<LayerId>,
    path: Option<PathBuf>,
    detail: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure of `operation`, a verb whose object is the layer or path (`"mount"`, `"create"`), or the name of a system call.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        let operation = operation.into();
        Self(Box::new(Inner {
            kind,
            operation,
            driver: None,
            layer: None,
            path: None,
            detail: None,
            source: None,
        }))
    }

    /// The failure of the system call `call` on `path`.
    pub fn syscall(call: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self::new(archive::ErrorKind::of_errno(errno).into(), call).path(path).source(io::Error::from(errno))
    }

    /// The failure of the system call `call` where no path is known; [`path`](Self::path) adds one.
    pub fn call(call: &'static str, errno: Errno) -> Self {
        Self::new(archive::ErrorKind::of_errno(errno).into(), call).source(io::Error::from(errno))
    }

    /// The failure of an I/O operation on `path`; the kind follows the error.
    pub fn io(operation: impl Into<Cow<'static, str>>, path: impl AsRef<Path>, error: io::Error) -> Self {
        Self::new(archive::ErrorKind::of_io(&error).into(), operation).path(path).source(error)
    }

    /// There is no layer `id`.
    pub fn layer_unknown(operation: impl Into<Cow<'static, str>>, id: &LayerId) -> Self {
        Self::new(ErrorKind::LayerUnknown, operation).layer(id).detail("no such layer")
    }

    /// The layer `parent`, on which another was to be built, does not exist.
    pub fn parent_unknown(operation: impl Into<Cow<'static, str>>, parent: &LayerId) -> Self {
        Self::new(ErrorKind::ParentUnknown, operation).detail(format!("no such parent layer: {parent}"))
    }

    /// A layer `id` exists already.
    pub fn layer_exists(operation: impl Into<Cow<'static, str>>, id: &LayerId) -> Self {
        Self::new(ErrorKind::LayerExists, operation).layer(id).detail("a layer with this id exists already")
    }

    /// When it is that there is no such layer: that `parent`, the layer in question, does not exist.
    pub(crate) fn about_parent(self, parent: &LayerId) -> Self {
        if self.kind() == ErrorKind::LayerUnknown { Self::parent_unknown("create", parent) } else { self }
    }

    /// Names the driver, unless one is named already.
    #[must_use]
    pub fn driver(mut self, name: &str) -> Self {
        self.0.driver.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Names the layer, unless one is named already.
    #[must_use]
    pub fn layer(mut self, id: &LayerId) -> Self {
        self.0.layer.get_or_insert_with(|| id.clone());
        self
    }

    /// Names the path that the operation was about.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_owned());
        self
    }

    /// Adds what is known beyond operation, layer and path, or what to do about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Says what to do where the kernel's text is all there is and the remedy is always the same.
    #[must_use]
    pub(crate) fn advise(self) -> Self {
        if self.errno() == Some(Errno::EROFS) && self.0.detail.is_none() {
            return self.detail(READ_ONLY);
        }
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

    /// The layer that the failure is about.
    pub fn failed_layer(&self) -> Option<&LayerId> {
        self.0.layer.as_ref()
    }

    /// The path that the failure is about.
    pub fn failed_path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The error number of the system call that failed, if one did.
    pub fn errno(&self) -> Option<Errno> {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.raw_os_error().map(Errno::from_raw);
            }
            if let Some(error) = error.downcast_ref::<FsError>() {
                return Some(error.errno);
            }
            cause = error.source();
        }
        None
    }

    /// The failure and its causes on one line, joined by `: `.
    pub fn report(&self) -> impl fmt::Display + '_ {
        Report(self)
    }
}

struct Report<'a>(&'a Error);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, driver, layer, path, detail, .. } = &*self.0;
        if let Some(driver) = driver {
            write!(f, "{driver}: ")?;
        }
        f.write_str(operation)?;
        if let Some(layer) = layer {
            write!(f, " layer {layer}")?;
        }
        if let Some(path) = path {
            write!(f, " {path:?}")?;
        }
        match detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, driver, layer, path, detail, source } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("operation", operation)
            .field("driver", driver)
            .field("layer", layer)
            .field("path", path)
            .field("detail", detail)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<archive::Error> for Error {
    /// Keeps the kind; the archive's error becomes the cause, so that its operation and path show once.
    fn from(error: archive::Error) -> Self {
        let operation = match error.kind() {
            archive::ErrorKind::InvalidArchive | archive::ErrorKind::PathEscape => "apply archive",
            _ => "access layer contents",
        };
        Self::new(error.kind().into(), operation).source(error)
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
    fn display_has_no_cause_and_report_has_the_chain() {
        let id: LayerId = "abc".parse().unwrap();
        let error = Error::syscall("fsmount", "/merged", Errno::EINVAL)
            .layer(&id)
            .driver("overlay")
            .detail("too many lowers");
        assert_eq!(error.to_string(), "overlay: fsmount layer abc \"/merged\": too many lowers");
        assert!(error.report().to_string().ends_with("too many lowers: Invalid argument (os error 22)"));
    }

    #[test]
    fn archive_errors_keep_kind_and_text() {
        let error = Error::from(archive::Error::invalid_archive("checksum").path("etc/passwd"));
        assert_eq!(error.kind(), ErrorKind::InvalidArchive);
        assert_eq!(error.report().to_string(), "apply archive: read archive \"etc/passwd\": checksum");
        assert_eq!(error.errno(), None);
        let error = Error::from(archive::Error::syscall("mkdirat", "a", Errno::EMLINK));
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, Some(Errno::EMLINK)));
    }

    #[test]
    fn a_read_only_file_system_comes_with_advice() {
        let error = Error::syscall("mkdir", "/home/layer", Errno::EROFS).advise();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("remount it read-write"), "{error}");
        assert!(error.report().to_string().ends_with("Read-only file system (os error 30)"));
        let told = Error::syscall("mkdir", "/home/layer", Errno::EROFS).detail("as told").advise();
        assert!(told.to_string().ends_with(": as told"), "what is known better stays: {told}");
        let other = Error::syscall("mkdir", "/home/layer", Errno::EACCES).advise();
        assert_eq!(other.to_string(), "mkdir \"/home/layer\"");
    }
}
