//! Opening a path below a root, by the kernel or by hand.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};

/// As many symbolic links on one path as the kernel follows (`path_resolution(7)`).
const MAX_SYMLINKS: usize = 40;

/// Bytes of a path, with its NUL, that a system call takes.
const PATH_MAX: usize = 4096;

/// `openat2(2)` gives `EAGAIN` when a rename or mount raced with a `..`; the kernel's advice is to try again.
const MAX_RETRIES: usize = 128;

/// Set once `openat2(2)` answered `ENOSYS` (before Linux 5.6), or a seccomp filter's `EPERM`.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens `path` below `root`; `..` and absolute links stop at `root`.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    if WITHOUT_OPENAT2.load(Ordering::Relaxed) {
        return walk(root, path, flags, mode);
    }
    match by_kernel(root, path, flags, mode) {
        Err(Errno::ENOSYS) => {
            WITHOUT_OPENAT2.store(true, Ordering::Relaxed);
            walk(root, path, flags, mode)
        }
        Err(Errno::EPERM) if is_filtered(root) => {
            WITHOUT_OPENAT2.store(true, Ordering::Relaxed);
            walk(root, path, flags, mode)
        }
        Err(Errno::ENAMETOOLONG) if path.as_os_str().len() >= PATH_MAX => in_pieces(root, path, flags, mode),
        result => result,
    }
}

/// Whether a seccomp filter refuses the call as such, as older container engines' do: an `O_PATH` descriptor of the root itself takes no permission.
fn is_filtered(root: BorrowedFd<'_>) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    matches!(by_kernel(root, Path::new("."), flags, Mode::empty()), Err(Errno::EPERM))
}

/// A path longer than the kernel takes at once. A piece is the next one's start, so it must be a directory itself: such a path has neither
/// symbolic links (`ELOOP`) nor `..` (`ENAMETOOLONG`) in it, as those that come from walking a tree have none.
fn in_pieces(root: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let below =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let mut dir: Option<OwnedFd> = None;
    let mut piece = PathBuf::new();
    for component in components(path) {
        if component == ".." {
            return Err(Errno::ENAMETOOLONG);
        }
        if piece.as_os_str().len() + component.len() + 1 >= PATH_MAX {
            let how =
                OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(below);
            dir = Some(openat2(dir.as_ref().map_or(root, AsFd::as_fd), &piece, how)?);
            piece.clear();
        }
        piece.push(component);
    }
    let mode = if flags.intersects(OFlag::O_CREAT) { mode } else { Mode::empty() };
    openat2(
        dir.as_ref().map_or(root, AsFd::as_fd),
        &piece,
        OpenHow::new().flags(flags).mode(mode).resolve(below),
    )
}

fn by_kernel(root: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // openat2 refuses a mode without O_CREAT or O_TMPFILE.
    let mode = if flags.intersects(OFlag::O_CREAT) { mode } else { Mode::empty() };
    let how = OpenHow::new()
        .flags(flags)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    for _ in 0..MAX_RETRIES {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}

/// The same by hand: one `O_PATH` descriptor per component, symbolic links read and their components put in front of the rest.
///
/// A directory that another process moves out of the root during the walk cannot make it leave: `..` goes back to the descriptor
/// that the walk came from, never to what the directory's parent has become.
pub(super) fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let mut todo = components(path);
    let mut trail: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            trail.pop();
            continue;
        }
        let dir = trail.last().map_or(root, AsFd::as_fd);
        let last = todo.is_empty();
        if is_symlink(dir, &name)? && !(last && flags.intersects(OFlag::O_NOFOLLOW)) {
            links += 1;
            if links > MAX_SYMLINKS {
                return Err(Errno::ELOOP);
            }
            let target = readlinkat(dir, name.as_os_str())?;
            if target.as_encoded_bytes().starts_with(b"/") {
                trail.clear();
            }
            for part in components(Path::new(&target)).into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        if last {
            return openat(dir, name.as_os_str(), flags | OFlag::O_NOFOLLOW, mode);
        }
        let below = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let next = openat(dir, name.as_os_str(), below, Mode::empty())?;
        trail.push(next);
    }
    openat(trail.last().map_or(root, AsFd::as_fd), ".", flags - OFlag::O_CREAT, Mode::empty())
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn is_symlink(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<bool> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
