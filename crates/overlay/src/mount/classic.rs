//! Mounting with `mount(2)`: all parameters in one string of at most a page.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use graphdriver_core::{Error, ErrorKind, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{SysconfVar, fchdir, sysconf};

use super::{OverlayMount, escape, failed, open_directory};

pub(super) fn attach(overlay: &OverlayMount<'_>) -> Result<()> {
    let data = data(overlay, &Directories::by_path(overlay));
    let mounted = if fits(&data) { mount_overlay(overlay, &data) } else { by_descriptors(overlay)? };
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
    lowers: Vec<Vec<u8>>,
    data_only: Vec<Vec<u8>>,
    /// Upper and work directory.
    upper: Option<[Vec<u8>; 2]>,
}

impl Directories {
    fn by_path(overlay: &OverlayMount<'_>) -> Self {
        let names = |directories: &[Cow<'_, Path>]| {
            directories.iter().map(|directory| escape(directory, b"\\,:")).collect()
        };
        Self {
            lowers: names(overlay.lowers),
            data_only: names(overlay.data_only),
            upper: overlay.upper.map(|upper| [upper.directory, upper.work].map(|path| escape(path, b"\\,"))),
        }
    }

    /// The value of `lowerdir`: a double colon is before each data-only directory.
    fn lowerdir(&self) -> Vec<u8> {
        let mut value = self.lowers.join(&b':');
        for data_only in &self.data_only {
            value.extend([b"::", data_only.as_slice()].concat());
        }
        value
    }
}

/// The directories, open, with numbers that are names in `/proc/thread-self/fd`.
struct Descriptors {
    lowers: Vec<OwnedFd>,
    data_only: Vec<OwnedFd>,
    upper: Option<[OwnedFd; 2]>,
}

impl Descriptors {
    fn open(overlay: &OverlayMount<'_>) -> Result<Self> {
        let open_all = |directories: &[Cow<'_, Path>]| {
            directories.iter().map(|directory| open_directory(directory)).collect::<Result<_>>()
        };
        let upper = match overlay.upper {
            Some(upper) => Some([open_directory(upper.directory)?, open_directory(upper.work)?]),
            None => None,
        };
        Ok(Self { lowers: open_all(overlay.lowers)?, data_only: open_all(overlay.data_only)?, upper })
    }

    fn names(&self) -> Directories {
        let name = |fd: &OwnedFd| fd.as_raw_fd().to_string().into_bytes();
        Directories {
            lowers: self.lowers.iter().map(name).collect(),
            data_only: self.data_only.iter().map(name).collect(),
            upper: self.upper.as_ref().map(|fds| fds.each_ref().map(name)),
        }
    }
}

/// The string that says what to mount.
fn data(overlay: &OverlayMount<'_>, directories: &Directories) -> Vec<u8> {
    let mut data = [b"lowerdir=", directories.lowerdir().as_slice()].concat();
    if let Some([upper, work]) = &directories.upper {
        data.extend([b",upperdir=", upper.as_slice(), b",workdir=", work.as_slice()].concat());
    }
    for (key, value) in overlay.parameters.iter() {
        data.push(b',');
        data.extend(key.to_bytes());
        if let Some(value) = value {
            data.push(b'=');
            data.extend(value.as_bytes());
        }
    }
    if let Some(label) = overlay.label {
        data.extend(format!(",context=\"{label}\"").into_bytes());
    }
    data
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
fn by_descriptors(overlay: &OverlayMount<'_>) -> Result<nix::Result<()>> {
    let descriptors = Descriptors::open(overlay)?;
    let data = data(overlay, &descriptors.names());
    if !fits(&data) {
        let layers = overlay.lowers.len() + overlay.data_only.len();
        let detail = format!("{layers} layers do not fit into one memory page of mount options");
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

#[cfg(test)]
mod tests {
    use super::super::{Attributes, Parameters, Upper};
    use super::*;

    #[test]
    fn the_string_quotes_and_separates() {
        let [lowers, data_only] =
            [["/a:b,c\\d", "/e"], ["/x:y", "/z"]].map(|paths| paths.map(|path| Cow::from(Path::new(path))));
        let parameters = Parameters::default();
        let overlay = OverlayMount {
            lowers: &lowers,
            data_only: &data_only,
            upper: Some(Upper { directory: Path::new("/u:p,r"), work: Path::new("/w") }),
            target: Path::new("/mnt"),
            parameters: &parameters,
            label: Some("s0:c1,c2"),
            attributes: Attributes::NONE,
        };
        let data = data(&overlay, &Directories::by_path(&overlay));
        assert_eq!(
            String::from_utf8(data).unwrap(),
            r#"lowerdir=/a\:b\,c\\d:/e::/x\:y::/z,upperdir=/u:p\,r,workdir=/w,context="s0:c1,c2""#
        );
    }
}
