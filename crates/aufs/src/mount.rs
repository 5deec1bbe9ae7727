//! Mounting branches with AUFS.
//!
//! `mount(2)` takes a page of options. The first branches go with the mount; each of those that do not fit is appended below by a remount.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, Result, TempDir, context_option};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{SysconfVar, sysconf};

use crate::home::Home;
use crate::unmount::unmount;

/// Where AUFS keeps inode numbers while it is mounted; it deletes the file as soon as it is open.
const XINO: &str = "/dev/shm/aufs.xino";

/// Directories' permission bits are looked at in the uppermost branch only (AUFS 3.16).
const DIRPERM1: &str = "dirperm1";

/// A mount to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AufsMount<'a> {
    /// What is written goes here, unless the mount is read-only.
    pub(crate) upper: &'a Path,
    /// Only read, the uppermost first.
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) target: &'a Path,
    pub(crate) flags: MsFlags,
    /// Options of the driver's user.
    pub(crate) options: Option<&'a str>,
    pub(crate) label: Option<&'a str>,
    pub(crate) dirperm1: bool,
}

impl AufsMount<'_> {
    /// Makes the mount, with private propagation.
    ///
    /// # Errors
    /// `InvalidArgument` for a path or label that AUFS's options cannot hold; `NotSupported` without AUFS; `PermissionDenied`; `Io`. Nothing is mounted then.
    pub(crate) fn attach(&self) -> Result<()> {
        let calls = self.calls(page_bytes())?;
        let made = calls.iter().enumerate().try_for_each(|(number, data)| {
            let remount = if number == 0 { MsFlags::empty() } else { MsFlags::MS_REMOUNT };
            self.call(self.flags | remount, Some(data))
        });
        let made = made.and_then(|()| self.call(MsFlags::MS_PRIVATE, None));
        made.inspect_err(|_| {
            if let Err(error) = unmount(self.target) {
                tracing::warn!(error = %error.report(), "a mount without all of its branches stays");
            }
        })
    }

    fn call(&self, flags: MsFlags, data: Option<&[u8]>) -> Result<()> {
        let data = data.map(OsStr::from_bytes);
        mount(Some("none"), self.target, Some("aufs"), flags, data).map_err(|errno| match errno {
            Errno::ENODEV => Error::new(ErrorKind::NotSupported, "mount aufs")
                .path(self.target)
                .detail("this kernel has no AUFS"),
            errno => Error::syscall("mount aufs", self.target, errno),
        })
    }

    /// The options of each call: the mount's, and those of the remounts that follow it, none longer than a page.
    fn calls(&self, page_bytes: usize) -> Result<Vec<Vec<u8>>> {
        let mut rest = format!(",dio,xino={XINO}");
        for option in self.options.into_iter().chain(self.dirperm1.then_some(DIRPERM1)) {
            rest.push(',');
            rest.push_str(option);
        }
        let label = self.label.filter(|label| !label.is_empty()).map(context_option).transpose()?;
        let label = label.map(|label| format!(",{label}")).unwrap_or_default();
        rest.push_str(&label);
        // The terminator is the page's last byte.
        let room = page_bytes.saturating_sub(1);
        // Nothing is made in a branch that is only read, so that its file system may be read-only.
        let mode: &[u8] = if self.flags.contains(MsFlags::MS_RDONLY) { b"=ro+wh" } else { b"=rw" };
        let mut first = [b"br:", checked(self.upper)?, mode].concat();
        let mut lowers = self.lowers.iter().peekable();
        while let Some(lower) = lowers.peek() {
            let branch = [b":", checked(lower)?, b"=ro+wh"].concat();
            if first.len() + branch.len() + rest.len() > room {
                break;
            }
            first.extend(branch);
            lowers.next();
        }
        first.extend(rest.into_bytes());
        if first.len() > room {
            return Err(Error::new(ErrorKind::InvalidArgument, "mount aufs")
                .path(self.target)
                .detail(format!("its options are {} bytes, and there is room for {room}", first.len())));
        }
        let mut calls = vec![first];
        let mut next: Vec<u8> = Vec::new();
        for lower in lowers {
            let branch = [b"append:", checked(lower)?, b"=ro+wh"].concat();
            if !next.is_empty() && next.len() + 1 + branch.len() + label.len() > room {
                calls.push([std::mem::take(&mut next), label.clone().into_bytes()].concat());
            }
            if !next.is_empty() {
                next.push(b',');
            }
            next.extend(branch);
        }
        if !next.is_empty() {
            calls.push([next, label.into_bytes()].concat());
        }
        Ok(calls)
    }
}

/// The bytes of a path, none of which means anything in AUFS's options, where nothing can be escaped.
fn checked(path: &Path) -> Result<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.iter().find(|byte| b":,=\\\n".contains(byte)) {
        None => Ok(bytes),
        Some(byte) => Err(Error::new(ErrorKind::InvalidArgument, "mount aufs").path(path).detail(format!(
            "AUFS takes no path with {:?} in it; put the root in another directory",
            char::from(*byte)
        ))),
    }
}

fn page_bytes() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096)
}

/// Whether AUFS knows `dirperm1`, found by a mount the first time.
pub(crate) fn has_dirperm1(home: &Home) -> bool {
    *home.dirperm1.get_or_init(|| match home.temp_dirs.create().and_then(try_dirperm1) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(error = %error.report(), "no dirperm1");
            false
        }
    })
}

fn try_dirperm1(scratch: TempDir) -> Result<()> {
    let [upper, target] = ["base", "union"].map(|name| scratch.path().join(name));
    for dir in [&upper, &target] {
        fs::create_dir(dir).map_err(|error| Error::io("mkdir", dir, error))?;
    }
    let mount = AufsMount {
        upper: &upper,
        lowers: &[],
        target: &target,
        flags: MsFlags::empty(),
        options: None,
        label: None,
        dirperm1: true,
    };
    mount.attach()?;
    unmount(&target)?;
    scratch.delete()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(lowers: usize, page: usize, label: Option<&str>) -> Result<Vec<String>> {
        let lowers: Vec<PathBuf> =
            (0..lowers).map(|number| format!("/home/diff/{number:03}").into()).collect();
        let mount = AufsMount {
            upper: Path::new("/home/diff/top"),
            lowers: &lowers,
            target: Path::new("/mnt"),
            flags: MsFlags::empty(),
            options: Some("noplink"),
            label,
            dirperm1: true,
        };
        let calls = mount.calls(page)?;
        Ok(calls.into_iter().map(|call| String::from_utf8(call).unwrap()).collect())
    }

    #[test]
    fn few_branches_go_with_the_mount() {
        assert_eq!(
            calls(2, 4096, None).unwrap(),
            [
                "br:/home/diff/top=rw:/home/diff/000=ro+wh:/home/diff/001=ro+wh,dio,xino=/dev/shm/aufs.xino,noplink,dirperm1"
            ]
        );
        assert_eq!(
            calls(0, 4096, Some("a:b,c")).unwrap(),
            ["br:/home/diff/top=rw,dio,xino=/dev/shm/aufs.xino,noplink,dirperm1,context=\"a:b,c\""]
        );
    }

    /// Whatever the size of the page, every branch comes once and in order, and no call is too long.
    #[test]
    fn the_others_are_appended_in_order() {
        for page in (100..300).chain([4096]) {
            let calls = calls(130, page, Some("label")).unwrap();
            assert!(calls.iter().all(|call| call.len() < page), "{page}");
            let appended =
                calls[1..].iter().flat_map(|call| call.split(',')).filter(|part| part.starts_with("append:"));
            let first = calls[0].split(',').next().unwrap();
            let with_mount = first.split(':').skip(2).map(str::to_owned);
            let branches: Vec<String> =
                with_mount.chain(appended.map(|part| part["append:".len()..].to_owned())).collect();
            let expected: Vec<String> =
                (0..130).map(|number| format!("/home/diff/{number:03}=ro+wh")).collect();
            assert_eq!(branches, expected, "{page}");
        }
        // With one byte less there is no room for the mount's own options.
        let needed = calls(0, 4096, Some("label")).unwrap()[0].len();
        assert!(calls(1, needed + 1, Some("label")).is_ok());
        assert_eq!(calls(1, needed, Some("label")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn a_path_with_a_separator_is_refused() {
        for path in ["/a:b", "/a,b", "/a=b", "/a\\b"] {
            assert_eq!(checked(Path::new(path)).unwrap_err().kind(), ErrorKind::InvalidArgument, "{path}");
        }
    }
}
