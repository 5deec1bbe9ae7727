//! Where connections come from.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, Result};
use nix::unistd::Gid;

use crate::stream::Stream;

/// A socket on which calls are waited for.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// The socket's file, if it was made here.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// A unix socket at `path`, which only its owner may use and members of `group`. Directories above it are made; the file goes with the listener.
    ///
    /// A socket that is there already is replaced if nobody listens on it.
    ///
    /// # Errors
    /// `InvalidArgument` when somebody does, or the path is of something else than a socket; `PermissionDenied`, `Io`.
    #[doc(alias = "ServeUnix")]
    pub fn unix(path: &Path, group: Option<Gid>) -> Result<Self> {
        let failed = |call: &'static str| move |error| Error::io(call, path, error);
        let dir = path.parent().ok_or_else(|| refused(path, "is no path of a socket"))?;
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("mkdir"))?;
        refuse_others(path)?;
        // Under another name until it has its owner and mode, so that nobody connects before.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let _ = fs::remove_file(&temporary);
        let socket = UnixListener::bind(&temporary).map_err(failed("bind"))?;
        let placed = fs::set_permissions(&temporary, Permissions::from_mode(0o660))
            .and_then(|()| chown(&temporary, None, group.map(Gid::as_raw)))
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| SocketFile::at(path));
        let file = placed.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed("make socket")(error)
        })?;
        Self::new(Socket::Unix(socket), Some(file))
    }

    /// A port of TCP. Whoever reaches it may call: there is nothing by which to tell who that is.
    ///
    /// # Errors
    /// `PermissionDenied`, `Io`.
    #[doc(alias = "ServeTCP")]
    pub fn tcp(address: SocketAddr) -> Result<Self> {
        let socket =
            TcpListener::bind(address).map_err(|error| Error::io("bind", address.to_string(), error))?;
        Self::new(Socket::Tcp(socket), None)
    }

    /// A unix socket that somebody else made, as systemd does.
    ///
    /// # Errors
    /// `Io`.
    #[doc(alias = "ServeListener")]
    pub fn from_unix(socket: UnixListener) -> Result<Self> {
        Self::new(Socket::Unix(socket), None)
    }

    /// A socket of TCP that somebody else made.
    ///
    /// # Errors
    /// `Io`.
    pub fn from_tcp(socket: TcpListener) -> Result<Self> {
        Self::new(Socket::Tcp(socket), None)
    }

    /// The address of a socket of TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Unix(_) => None,
            Socket::Tcp(socket) => socket.local_addr().ok(),
        }
    }

    /// Not blocking: a client that is gone before it is accepted is nobody to wait for.
    fn new(socket: Socket, file: Option<SocketFile>) -> Result<Self> {
        let set = match &socket {
            Socket::Unix(socket) => socket.set_nonblocking(true),
            Socket::Tcp(socket) => socket.set_nonblocking(true),
        };
        set.map_err(|error| Error::io("ioctl", "socket", error))?;
        Ok(Self { socket, file })
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        Ok(match &self.socket {
            Socket::Unix(socket) => Stream::Unix(socket.accept()?.0),
            Socket::Tcp(socket) => Stream::Tcp(socket.accept()?.0),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            file.remove();
        }
    }
}

/// The file of a socket, which another process may have replaced meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }

    fn remove(self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = ?self.path, %error, "the socket stays");
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Fails when what is at `path` is not a socket that its server left behind.
fn refuse_others(path: &Path) -> Result<()> {
    match UnixStream::connect(path) {
        Ok(_) => Err(refused(path, "another server listens there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let metadata = path.symlink_metadata().map_err(|error| Error::io("lstat", path, error))?;
            let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type());
            if is_socket { Ok(()) } else { Err(refused(path, "there is something that is no socket")) }
        }
        Err(error) => Err(Error::io("connect", path, error)),
    }
}

fn refused(path: &Path, detail: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "listen on").path(path).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/name.sock");
        let listener = Listener::unix(&path, Some(nix::unistd::getegid())).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o660);
        let second = Listener::unix(&path, None).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::InvalidArgument);
        assert!(second.to_string().contains("another server"), "{second}");
        drop(listener);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = Listener::unix(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let second = Listener::unix(&path, None).unwrap();
        drop(first);
        assert!(path.exists(), "it is another's");
        drop(second);
        fs::write(&path, "precious").unwrap();
        let refused = Listener::unix(&path, None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
