//! Extended attributes of files that are held by descriptor, or named by one component below a directory descriptor.
//!
//! Three ways to say which file:
//!
//! | functions | file |
//! |---|---|
//! | [`fget`], [`fset`], [`flist`], [`fremove`] | the one open as a descriptor (not `O_PATH`) |
//! | [`get_at`], [`set_at`], [`list_at`], [`remove_at`] | the entry of a directory, symbolic links included |
//! | [`get_opath`], [`set_opath`], [`list_opath`], [`remove_opath`] | the one an `O_PATH` descriptor refers to, symbolic links included |
//!
//! Linux 6.13 has calls for entries of a directory. Before, and for `O_PATH` descriptors on every kernel, the way is
//! through `/proc/thread-self/fd`; without `/proc` it fails with `ENOENT`. (`thread-self`, because a thread may have a
//! descriptor table of its own.)
//!
//! Errors common to all, as in [xattr(7)](https://man7.org/linux/man-pages/man7/xattr.7.html) and the pages of the calls:
//! `ENOTSUP` (the file system or the kind of file has no such attributes: `user.*` exist on regular files and
//! directories only), `EPERM` and `EACCES`, `EINVAL` (a NUL in a name, an entry that is not one component, or a value that
//! this attribute does not take), `ERANGE` (a name over 255 bytes), `E2BIG` (a value, or a list of names, over 64 KiB).

use std::ffi::CStr;
use std::fmt;
use std::os::fd::AsFd;

use bitflags::bitflags;
use libc::c_int;
use nix::errno::Errno;
use nix::{NixPath, Result};

use self::target::Target;

mod entry;
mod target;

/// Holds nearly every value met in layers (capabilities, ACLs, overlay's marks), so that one call is enough.
const STACK_BYTES: usize = 256;

bitflags! {
    /// What [`fset`] and its siblings may do to an attribute; nothing given, they make it or replace its value.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SetFlags: c_int {
        /// Fail with `EEXIST` when there is such an attribute.
        const CREATE = libc::XATTR_CREATE;
        /// Fail with `ENODATA` when there is no such attribute.
        const REPLACE = libc::XATTR_REPLACE;
    }
}

/// The value of attribute `name` of an open file; `None` when there is none.
///
/// # Errors
///
/// `EBADF` for an `O_PATH` descriptor, and those common to this [module](self).
#[doc(alias = "fgetxattr")]
pub fn fget<N: ?Sized + NixPath>(fd: impl AsFd, name: &N) -> Result<Option<Vec<u8>>> {
    get(&Target::Open(fd.as_fd()), name)
}

/// The value of attribute `name` of the entry `entry` of directory `dir`; `None` when there is none.
///
/// # Errors
///
/// `ENOENT` when there is no such entry, and those common to this [module](self).
#[doc(alias = "lgetxattr")]
#[doc(alias = "getxattrat")]
pub fn get_at<E, N>(dir: impl AsFd, entry: &E, name: &N) -> Result<Option<Vec<u8>>>
where
    E: ?Sized + NixPath,
    N: ?Sized + NixPath,
{
    get(&Target::entry(dir.as_fd(), entry)?, name)
}

/// The value of attribute `name` of the file that an `O_PATH` descriptor refers to; `None` when there is none.
///
/// # Errors
///
/// Those common to this [module](self).
#[doc(alias = "getxattr")]
pub fn get_opath<N: ?Sized + NixPath>(fd: impl AsFd, name: &N) -> Result<Option<Vec<u8>>> {
    get(&Target::opath(fd.as_fd()), name)
}

/// Gives attribute `name` of an open file the value `value`.
///
/// # Errors
///
/// `EBADF` for an `O_PATH` descriptor, `ENOSPC`, `EDQUOT`, `EROFS`, and those common to this [module](self).
#[doc(alias = "fsetxattr")]
pub fn fset<N: ?Sized + NixPath>(fd: impl AsFd, name: &N, value: &[u8], flags: SetFlags) -> Result<()> {
    name.with_nix_path(|name| Target::Open(fd.as_fd()).set(name, value, flags))?
}

/// Gives attribute `name` of the entry `entry` of directory `dir` the value `value`.
///
/// # Errors
///
/// `ENOENT`, `ENOSPC`, `EDQUOT`, `EROFS`, and those common to this [module](self).
#[doc(alias = "lsetxattr")]
#[doc(alias = "setxattrat")]
pub fn set_at<E, N>(dir: impl AsFd, entry: &E, name: &N, value: &[u8], flags: SetFlags) -> Result<()>
where
    E: ?Sized + NixPath,
    N: ?Sized + NixPath,
{
    let target = Target::entry(dir.as_fd(), entry)?;
    name.with_nix_path(|name| target.set(name, value, flags))?
}

/// Gives attribute `name` of the file that an `O_PATH` descriptor refers to the value `value`.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `EROFS`, and those common to this [module](self).
#[doc(alias = "setxattr")]
pub fn set_opath<N: ?Sized + NixPath>(fd: impl AsFd, name: &N, value: &[u8], flags: SetFlags) -> Result<()> {
    name.with_nix_path(|name| Target::opath(fd.as_fd()).set(name, value, flags))?
}

/// The names of the attributes of an open file that the caller may see.
///
/// # Errors
///
/// `EBADF` for an `O_PATH` descriptor, and those common to this [module](self).
#[doc(alias = "flistxattr")]
pub fn flist(fd: impl AsFd) -> Result<Names> {
    list(&Target::Open(fd.as_fd()))
}

/// The names of the attributes of the entry `entry` of directory `dir` that the caller may see.
///
/// # Errors
///
/// `ENOENT` when there is no such entry, and those common to this [module](self).
#[doc(alias = "llistxattr")]
#[doc(alias = "listxattrat")]
pub fn list_at<E: ?Sized + NixPath>(dir: impl AsFd, entry: &E) -> Result<Names> {
    list(&Target::entry(dir.as_fd(), entry)?)
}

/// The names of the attributes of the file that an `O_PATH` descriptor refers to.
///
/// # Errors
///
/// Those common to this [module](self).
#[doc(alias = "listxattr")]
pub fn list_opath(fd: impl AsFd) -> Result<Names> {
    list(&Target::opath(fd.as_fd()))
}

/// Removes attribute `name` of an open file.
///
/// # Errors
///
/// `ENODATA` when there is none, `EBADF` for an `O_PATH` descriptor, `EROFS`, and those common to this [module](self).
#[doc(alias = "fremovexattr")]
pub fn fremove<N: ?Sized + NixPath>(fd: impl AsFd, name: &N) -> Result<()> {
    name.with_nix_path(|name| Target::Open(fd.as_fd()).remove(name))?
}

/// Removes attribute `name` of the entry `entry` of directory `dir`.
///
/// # Errors
///
/// `ENODATA` when there is none, `ENOENT`, `EROFS`, and those common to this [module](self).
#[doc(alias = "lremovexattr")]
#[doc(alias = "removexattrat")]
pub fn remove_at<E, N>(dir: impl AsFd, entry: &E, name: &N) -> Result<()>
where
    E: ?Sized + NixPath,
    N: ?Sized + NixPath,
{
    let target = Target::entry(dir.as_fd(), entry)?;
    name.with_nix_path(|name| target.remove(name))?
}

/// Removes attribute `name` of the file that an `O_PATH` descriptor refers to.
///
/// # Errors
///
/// `ENODATA` when there is none, `EROFS`, and those common to this [module](self).
#[doc(alias = "removexattr")]
pub fn remove_opath<N: ?Sized + NixPath>(fd: impl AsFd, name: &N) -> Result<()> {
    name.with_nix_path(|name| Target::opath(fd.as_fd()).remove(name))?
}

/// Names of extended attributes, in the order of the file system.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// As the kernel gives them: one after the other, each with its NUL.
    bytes: Vec<u8>,
}

impl Names {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The names, one by one.
    pub fn iter(&self) -> NamesIter<'_> {
        NamesIter { rest: &self.bytes }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Names {
    type Item = &'a CStr;
    type IntoIter = NamesIter<'a>;

    fn into_iter(self) -> NamesIter<'a> {
        self.iter()
    }
}

/// An iterator over [`Names`].
#[derive(Clone, Debug)]
pub struct NamesIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NamesIter<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        // Bytes without an end are not a name: nothing the kernel gives, and then the last.
        let name = CStr::from_bytes_until_nul(self.rest).ok()?;
        self.rest = &self.rest[name.count_bytes() + 1..];
        Some(name)
    }
}

fn get<N: ?Sized + NixPath>(target: &Target<'_>, name: &N) -> Result<Option<Vec<u8>>> {
    match name.with_nix_path(|name| read_all(|buffer| target.get(name, buffer)))? {
        Err(Errno::ENODATA) => Ok(None),
        read => read.map(Some),
    }
}

fn list(target: &Target<'_>) -> Result<Names> {
    read_all(|buffer| target.list(buffer)).map(|bytes| Names { bytes })
}

/// Reads what `call` writes, however long it is.
///
/// Given an empty buffer, `call` returns the length it needs; given one too small, `ERANGE`. Another process may make the
/// value longer in between, hence the loop.
fn read_all(mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut stack = [0; STACK_BYTES];
    match call(&mut stack) {
        Err(Errno::ERANGE) => {}
        read => return read.map(|bytes| stack[..bytes].to_vec()),
    }
    loop {
        let mut buffer = vec![0; call(&mut [])?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match call(&mut buffer) {
            Err(Errno::ERANGE) => {}
            read => {
                buffer.truncate(read?);
                return Ok(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
