//! Whether overlay works on this kernel and on the file system of the home, how it wants to be spoken to, and what else it can.
//!
//! Found by mounting in a temporary directory on that file system: what a kernel version promises, a file system, a security
//! module or a container may take away.

mod dialect;
mod features;
mod file_system;
mod memory;
mod probes;
mod scratch;
mod trial;

use std::path::Path;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, ErrorKind, FsMagic, Result, fs_magic};
use graphdriver_sys::capability::{self, Capability};
use graphdriver_sys::user_namespace;

use crate::mount::{self, Dialect, MountApi};
use crate::options::OverlayTuning;

pub(crate) use features::{Feature, Verdict};
pub(crate) use probes::Probes;
pub(crate) use scratch::Scratch;

use trial::Trial;

/// What was found, as far as every mount needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Support {
    pub(crate) backing: FsMagic,
    pub(crate) dialect: Dialect,
    /// Mounts work in user namespaces too.
    pub(crate) user_namespace: bool,
}

/// Tries overlay in `scratch`, an empty directory on the home's file system.
///
/// # Errors
/// `IncompatibleFs` for a file system that cannot be below overlay; `NotSupported` when the kernel has no overlay; `Prerequisites` without the
/// privilege to mount; `NoSpace`; `Io`.
pub(crate) fn probe(scratch: &Path, tuning: OverlayTuning) -> Result<Support> {
    check_privilege()?;
    let initial = in_initial_namespace()?;
    let backing = fs_magic(scratch)?;
    file_system::check_type(scratch, backing, initial)?;
    let trial = Trial::prepare(scratch)?;
    file_system::check_file_types(&trial.lower)?;
    let xattrs = if initial { OverlayXattrs::Trusted } else { OverlayXattrs::User };
    file_system::check_xattrs(&trial, backing, xattrs)?;
    let dialect = dialect::find(&trial, backing, xattrs, tuning)?;
    let user_namespace = !initial || features::userxattr(&trial, dialect)?.is_on();
    Ok(Support { backing, dialect, user_namespace })
}

/// What there is when a program mounts: nothing of the kernel's overlay is needed, and any file system will do.
///
/// # Errors
/// `Io`.
pub(crate) fn with_program(home: &Path) -> Result<Support> {
    let xattrs = if in_initial_namespace()? { OverlayXattrs::Trusted } else { OverlayXattrs::User };
    let dialect = Dialect { api: MountApi::FsContext, switches: false, volatile: false, xattrs };
    Ok(Support { backing: fs_magic(home)?, dialect, user_namespace: true })
}

/// Asked for first, because without it everything else fails in its own way.
///
/// # Errors
/// `Prerequisites` without the privilege to mount.
pub(crate) fn check_privilege() -> Result<()> {
    match capability::has_effective(Capability::SysAdmin) {
        Ok(false) => {
            Err(Error::new(ErrorKind::Prerequisites, "probe overlay").detail(mount::NEEDS_PRIVILEGE))
        }
        // Where a sandbox keeps the answer back, the mount tells.
        Ok(true) | Err(_) => Ok(()),
    }
}

fn in_initial_namespace() -> Result<bool> {
    user_namespace::in_initial().map_err(|error| Error::io("read", "/proc/self/uid_map", error))
}

fn incompatible(path: &Path, backing: FsMagic, why: &str) -> Error {
    let detail = format!("the file system is {backing}: {why}");
    Error::new(ErrorKind::IncompatibleFs, "probe overlay").path(path).detail(detail)
}
