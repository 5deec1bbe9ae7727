//! What the running kernel has of AUFS.

use std::fs;

use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::user_namespace;

const FILE_SYSTEMS: &str = "/proc/filesystems";

/// # Errors
/// `NotSupported` where AUFS is not in the kernel, and in a user namespace.
pub(crate) fn require() -> Result<()> {
    require_initial_namespace()?;
    let listed = fs::read_to_string(FILE_SYSTEMS).map_err(|error| Error::io("read", FILE_SYSTEMS, error))?;
    if lists_aufs(&listed) {
        Ok(())
    } else {
        Err(unsupported(
            "AUFS was not found in /proc/filesystems; no distribution's kernel has it any more, but its layers can be moved to another driver",
        ))
    }
}

/// # Errors
/// `NotSupported` in a user namespace.
pub(crate) fn require_initial_namespace() -> Result<()> {
    match user_namespace::in_initial() {
        Ok(true) => Ok(()),
        Ok(false) => Err(unsupported("AUFS cannot be used in non-init user namespace")),
        Err(error) => Err(Error::io("read", "/proc/self/uid_map", error)),
    }
}

fn lists_aufs(file_systems: &str) -> bool {
    file_systems.lines().any(|line| line.split_whitespace().last() == Some("aufs"))
}

fn unsupported(detail: &str) -> Error {
    Error::new(ErrorKind::NotSupported, "probe aufs").detail(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_counts() {
        assert!(lists_aufs("nodev\tsysfs\nnodev\taufs\n\text4\n"));
        assert!(!lists_aufs("nodev\tsysfs\n\taufsx\nnodev\tnotaufs\n"));
        assert!(!lists_aufs(""));
    }
}
