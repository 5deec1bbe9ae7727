//! What the calling thread may do.

use nix::Result;
use nix::errno::Errno;

/// A privilege that work on layers asks for, named as in
/// [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Capability {
    /// Change owners.
    #[doc(alias = "CAP_CHOWN")]
    Chown = 0,
    /// Pass over permission checks.
    #[doc(alias = "CAP_DAC_OVERRIDE")]
    DacOverride = 1,
    /// Read any file and search any directory.
    #[doc(alias = "CAP_DAC_READ_SEARCH")]
    DacReadSearch = 2,
    /// Do what only a file's owner may.
    #[doc(alias = "CAP_FOWNER")]
    Fowner = 3,
    /// Keep set-user-id and set-group-id bits.
    #[doc(alias = "CAP_FSETID")]
    Fsetid = 4,
    /// Change group ids.
    #[doc(alias = "CAP_SETGID")]
    Setgid = 6,
    /// Change user ids.
    #[doc(alias = "CAP_SETUID")]
    Setuid = 7,
    /// Change the root directory.
    #[doc(alias = "CAP_SYS_CHROOT")]
    SysChroot = 18,
    /// Mount, and set `trusted.*` attributes, among many things.
    #[doc(alias = "CAP_SYS_ADMIN")]
    SysAdmin = 21,
    /// Use more than the reserved or allotted space.
    #[doc(alias = "CAP_SYS_RESOURCE")]
    SysResource = 24,
    /// Make device files.
    #[doc(alias = "CAP_MKNOD")]
    Mknod = 27,
    /// Give capabilities to files.
    #[doc(alias = "CAP_SETFCAP")]
    Setfcap = 31,
}

/// Whether the calling thread has `capability` in its effective set, with respect to its own user namespace.
///
/// In a user namespace this holds for files whose owners are mapped there only; it makes no device files and mounts
/// few file systems: see [`user_namespace`](crate::user_namespace).
///
/// See [capget(2)](https://man7.org/linux/man-pages/man2/capget.2.html).
///
/// # Errors
///
/// Only what a sandbox may put in the way (`EPERM`, `ENOSYS`).
#[doc(alias = "capget")]
pub fn has_effective(capability: Capability) -> Result<bool> {
    let number = capability as usize;
    let (word, bit) = (number / 32, number % 32);
    Ok(effective()?[word] & (1 << bit) != 0)
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct` of linux/capability.h, which libc lacks.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct` of linux/capability.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn effective() -> Result<[u32; 2]> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two data structures, which is what `data` holds, and the header.
    let returned = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(returned)?;
    Ok(data.map(|data| data.effective))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn agrees_with_proc() {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        let expected = u64::from_str_radix(value, 16).unwrap();
        for capability in [
            Capability::Chown,
            Capability::DacOverride,
            Capability::SysAdmin,
            Capability::SysResource,
            Capability::Mknod,
            Capability::Setfcap,
        ] {
            let bit = expected & (1 << capability as u8) != 0;
            assert_eq!(has_effective(capability), Ok(bit), "{capability:?}");
        }
        let [low, high] = effective().unwrap();
        assert_eq!(u64::from(high) << 32 | u64::from(low), expected);
    }
}
