//! Who may call.

use graphdriver_sys::peer_groups;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Uid};

use crate::stream::Stream;
use crate::wire::Refusal;

/// Checks who is at the other end of a unix socket: root, who runs the server, and members of one group. A socket of TCP does not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) group: Option<Gid>,
}

impl Access {
    /// Whether the client that made this connection may call.
    ///
    /// # Errors
    /// 403 when it may not.
    pub(crate) fn check(self, stream: &Stream) -> Result<(), Refusal> {
        let Stream::Unix(socket) = stream else { return Ok(()) };
        let unknown = |errno| Refusal::new(403, format!("it cannot be told who calls: {errno}"));
        let peer = getsockopt(socket, PeerCredentials).map_err(unknown)?;
        let groups = match peer_groups(socket) {
            // Linux before 4.13.
            Err(Errno::ENOPROTOOPT) => Vec::new(),
            groups => groups.map_err(unknown)?,
        };
        let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
        if self.admits(Uid::effective(), uid, gid, &groups) {
            return Ok(());
        }
        Err(Refusal::new(403, format!("uid {uid} may not call: only root and the socket's group may")))
    }

    fn admits(self, server: Uid, uid: Uid, gid: Gid, groups: &[Gid]) -> bool {
        let is_member = |group: Gid| gid == group || groups.contains(&group);
        uid.is_root() || uid == server || self.group.is_some_and(is_member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_server_and_the_group() {
        let admits = |group: Option<u32>, uid: u32, gid: u32, groups: &[u32]| {
            let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
            let access = Access { group: group.map(Gid::from_raw) };
            access.admits(Uid::from_raw(500), Uid::from_raw(uid), Gid::from_raw(gid), &groups)
        };
        assert!(admits(None, 0, 0, &[]));
        assert!(admits(None, 500, 1, &[]));
        assert!(!admits(None, 1000, 0, &[0]), "the group of root is not root");
        assert!(admits(Some(7), 1000, 7, &[]));
        assert!(admits(Some(7), 1000, 1, &[3, 7]));
        assert!(!admits(Some(7), 1000, 1, &[3]));
    }

    #[test]
    fn both_ends_of_a_pair_are_ours() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        Access { group: None }.check(&Stream::Unix(one)).unwrap();
    }
}
