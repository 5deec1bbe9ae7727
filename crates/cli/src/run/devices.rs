//! A container's `/dev`: the few devices that programs expect, terminals of its own, shared memory.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use graphdriver::Error;
use nix::mount::MsFlags;
use nix::unistd::ttyname;

use super::root::{INERT, attach, by_descriptor, directory, is_of_options, open_path};

/// Devices that can do no harm. They are mounted from the host's: a user namespace cannot make device files.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

const LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// The host's devices, held open while they are still in sight.
pub(super) struct HostDevices(Vec<(&'static str, OwnedFd)>);

impl HostDevices {
    /// Opens those that the host has.
    pub(super) fn open() -> Self {
        let open = |path: &'static str| Some((path, open_path(Path::new(path)).ok()?));
        let mut devices: Vec<_> = DEVICES.into_iter().filter_map(open).collect();
        // The terminal that we are on has no name among the container's own, and programs look for it here too.
        if let Ok(terminal) = ttyname(io::stdin()) {
            devices.extend(open_path(&terminal).map(|fd| ("/dev/console", fd)));
        }
        Self(devices)
    }

    /// Mounts `/dev`.
    ///
    /// # Errors
    /// `PermissionDenied`; `InvalidArgument` when the layer has a file of that name; `Io`.
    pub(super) fn mount(self) -> Result<(), Error> {
        directory("/dev")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_STRICTATIME;
        attach(Some("tmpfs"), "/dev", Some("tmpfs"), flags, Some("mode=755,size=64k"))?;
        for (path, host) in &self.0 {
            File::create(path).map_err(|error| Error::io("create", path, error))?;
            attach(Some(&by_descriptor(host)), path, None, MsFlags::MS_BIND, None)?;
        }
        for (target, path) in LINKS {
            symlink(target, path).map_err(|error| Error::io("symlink", path, error))?;
        }
        mount_terminals()?;
        directory("/dev/shm")?;
        attach(Some("shm"), "/dev/shm", Some("tmpfs"), INERT, Some("mode=1777,size=64m"))
    }
}

fn mount_terminals() -> Result<(), Error> {
    directory("/dev/pts")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let mount = |options| attach(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some(options));
    // Terminals belong to the group tty, which is 5 everywhere, unless the user namespace has no such id.
    match mount("newinstance,ptmxmode=0666,mode=0620,gid=5") {
        Err(error) if is_of_options(&error) => mount("newinstance,ptmxmode=0666,mode=0620"),
        mounted => mounted,
    }
}
