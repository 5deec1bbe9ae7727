//! What this process may do.

use std::io;

use graphdriver_sys::capability::{Capability, has_effective};
use graphdriver_sys::user_namespace;

use crate::error::{Error, ErrorKind, Result};

/// Whether this process is in another user namespace than the machine's own.
///
/// # Errors
/// `Io`.
pub fn in_user_namespace() -> Result<bool> {
    let initial = user_namespace::in_initial();
    initial.map(|initial| !initial).map_err(|error| Error::io("read", "/proc/thread-self/uid_map", error))
}

/// Whether this process may write to what the mode of a file or directory closes.
///
/// # Errors
/// `Io`.
pub fn overrides_modes() -> Result<bool> {
    has_effective(Capability::DacOverride)
        .map_err(|errno| Error::new(ErrorKind::Io, "capget").source(io::Error::from(errno)))
}
