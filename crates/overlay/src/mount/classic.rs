//! Mounting with `mount(2)`: all parameters in one string of at most a page.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::thread;

use graphdriver_core::{Error, ErrorKind, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{SysconfVar, fchdir, sysconf};

use super::{Dialect, OverlayMount, escape, failed, open_directory};

pub(super) fn attach(overlay: &OverlayMount<'_>, dialect: Dialect) -> Result<()> {
    let paths = Directories::by_path(overlay);
    let data = data(overlay, dialect, &paths)?;
    let mounted = if fits(&data) { mount_overlay(overlay, &data) } else { by_descriptors(overlay, dialect)? };
    mounted.map_err(|errno| failed("mount overlay", overlay.target, errno))?;
    // Below a shared mount the new one became shared when it was attached.
    mount(None::<&str>, overlay.target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).map_err(|errno| {
        if let Err(error) = super::detach(overlay.target) {
            tracing::warn!(error = %error.report(), "a mount that is not private stays");
        }
        failed("make mount private", overlay.target, errno)
    })
}

/// How the directories are named in the string.
struct Directories {
    /// Joined by colons.
    lowers: Vec<u8>,
    /// Upper and work directory.
    upper: Option<[Vec<u8>; 2]>,
}

impl Directories {
    fn by_path(overlay: &OverlayMount<'_>) -> Self {
        let lowers: Vec<_> = overlay.lowers.iter().map(|lower| escape(lower, b"\\,:")).collect();
        let upper = overlay.upper.map(|upper| [upper.directory, upper.work].map(|path| escape(path, b"\\,")));
        Self { lowers: lowers.join(&b':'), upper }
    }

    /// By numbers that are names in `/proc/thread-self/fd`.
    fn by_descriptor(lowers: &[OwnedFd], upper: Option<&[OwnedFd; 2]>) -> Self {
        let name = |fd: &OwnedFd| fd.as_raw_fd().to_string().into_bytes();
        let lowers: Vec<_> = lowers.iter().map(name).collect();
        Self { lowers: lowers.join(&b':'), upper: upper.map(|fds| fds.each_ref().map(name)) }
    }
}

/// The string that says what to mount.
fn data(overlay: &OverlayMount<'_>, dialect: Dialect, directories: &Directories) -> Result<Vec<u8>> {
    let mut data = [b"lowerdir=", directories.lowers.as_slice()].concat();
    if let Some([upper, work]) = &directories.upper {
        data.extend([b",upperdir=", upper.as_slice(), b",workdir=", work.as_slice()].concat());
    }
    for (key, value) in overlay.parameters(dialect) {
        data.push(b',');
        data.extend(key.to_bytes());
        if let Some(value) = value {
            data.push(b'=');
            data.extend(value.to_bytes());
        }
    }
    if let Some(label) = overlay.label {
        if label.contains('"') {
            let detail = format!("a label cannot have quotes: {label}");
            return Err(Error::new(ErrorKind::InvalidArgument, "mount overlay").detail(detail));
        }
        data.extend(format!(",context=\"{label}\"").into_bytes());
    }
    Ok(data)
}

/// Whether the kernel takes the string whole: it copies one page, and the last byte is the terminator's.
fn fits(data: &[u8]) -> bool {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| usize::try_from(bytes).ok());
    data.len() < page.unwrap_or(4096)
}

fn mount_overlay(overlay: &OverlayMount<'_>, data: &[u8]) -> nix::Result<()> {
    let flags = overlay.attributes.classic;
    mount(Some("overlay"), overlay.target, Some("overlay"), flags, Some(OsStr::from_bytes(data)))
}

/// Mounts with the directories opened and named by number, relative to `/proc/thread-self/fd`: five hundred of them take 2 KiB.
fn by_descriptors(overlay: &OverlayMount<'_>, dialect: Dialect) -> Result<nix::Result<()>> {
    let lowers = overlay.lowers.iter().map(|lower| open_directory(lower)).collect::<Result<Vec<_>>>()?;
    let upper = match overlay.upper {
        Some(upper) => Some([open_directory(upper.directory)?, open_directory(upper.work)?]),
        None => None,
    };
    let data = data(overlay, dialect, &Directories::by_descriptor(&lowers, upper.as_ref()))?;
    if !fits(&data) {
        let detail = format!("{} layers do not fit into one memory page of mount options", lowers.len());
        return Err(Error::new(ErrorKind::InvalidArgument, "mount overlay")
            .path(overlay.target)
            .detail(detail));
    }
    // The working directory is a thread's own once it is unshared, so nobody else sees it change.
    let mount_there = || {
        unshare(CloneFlags::CLONE_FS)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        fchdir(open("/proc/thread-self/fd", flags, Mode::empty())?)?;
        mount_overlay(overlay, &data)
    };
    thread::scope(|scope| {
        let spawned =
            thread::Builder::new().name("overlay mount".to_owned()).spawn_scoped(scope, mount_there);
        let thread = spawned.map_err(|error| Error::io("start thread to mount", overlay.target, error))?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
