//! The groups of the process at the other end of a unix socket, as `SO_PEERGROUPS` tells them (Linux 4.13).
//!
//! <https://man7.org/linux/man-pages/man7/socket.7.html>, <https://lwn.net/Articles/725980/>

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Gid;

/// Most groups that a process can have (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// The supplementary groups that the peer had when it connected.
///
/// # Errors
/// `ENODATA` when there are no credentials, `ENOPROTOOPT` before Linux 4.13, `ENOTSOCK`.
#[doc(alias = "SO_PEERGROUPS")]
pub fn peer_groups(socket: impl AsFd) -> nix::Result<Vec<Gid>> {
    let mut groups = vec![0 as libc::gid_t; 32];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(&*groups)).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: the buffer has room for `bytes` bytes, which is what the kernel is told.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups.into_iter().map(Gid::from_raw).collect());
            }
            // The kernel has said how much it takes.
            Err(Errno::ERANGE) if count > groups.len() && count <= MAX_GROUPS => groups.resize(count, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_pair_has_our_own_groups() {
        let (one, _other) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let expected: BTreeSet<u32> = line.split_whitespace().map(|gid| gid.parse().unwrap()).collect();
        let groups: BTreeSet<u32> = peer_groups(&one).unwrap().into_iter().map(Gid::as_raw).collect();
        assert_eq!(groups, expected);
    }

    #[test]
    fn what_is_no_socket() {
        assert_eq!(peer_groups(std::fs::File::open("/dev/null").unwrap()), Err(Errno::ENOTSOCK));
    }
}
