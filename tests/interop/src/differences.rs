//! Where the other programs are known to make something else of an archive than it says.
//!
//! Each difference is written as what the program makes of a tree. What it really made is compared with that, so an entry that no longer holds fails every trial
//! that it touches, just as a difference that is not listed does.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use graphdriver_conformance::tree::{Node, Tree};

/// A program. The versions are those of Debian 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// GNU tar 1.34.
    GnuTar,
    /// umoci 0.4.7.
    Umoci,
    /// containers/storage 1.43.
    ContainersStorage,
    /// dockerd 20.10.
    Docker,
}

/// Something that a peer does differently, and why.
struct Difference {
    peers: &'static [Peer],
    /// Rewrites the tree that was meant to the one that the peer makes.
    make: fn(&mut Tree),
}

const DIFFERENCES: [Difference; 5] = [
    // No layer says anything of the root directory. tar has been given one with these bits, umoci makes it so.
    Difference { peers: &[Peer::GnuTar, Peer::Umoci], make: |tree| set_root_mode(tree, 0o755) },
    // `defaultPerms` of its drivers overlay and vfs, for a layer without parent. An entry of the root itself does not change it.
    Difference { peers: &[Peer::ContainersStorage], make: |tree| set_root_mode(tree, 0o555) },
    // Its `system.Chtimes` takes times before 1970 for mistakes.
    Difference { peers: &[Peer::ContainersStorage], make: no_times_before_1970 },
    // POSIX says of PAX records that one without a value takes the key back, and so Go's `archive/tar` reads attributes too.
    Difference { peers: &[Peer::ContainersStorage, Peer::Umoci], make: no_empty_attributes },
    // The key of a PAX record cannot hold `=`. GNU tar's code for it, which we write, is not known to Go.
    Difference { peers: &[Peer::ContainersStorage, Peer::Umoci], make: equals_signs_stay_codes },
];

/// What `peer` is known to leave out of the archives that it writes of layers whose contents did not come to it as archives.
const LOSSES: [Difference; 2] = [
    // `archive/tar` rounds times to seconds unless it is told to write PAX records.
    Difference { peers: &[Peer::ContainersStorage, Peer::Docker], make: whole_seconds },
    // `ReadSecurityXattrToTarHeader` and `ReadUserXattrToTarHeader` of its package archive: no access control lists, nothing of `trusted`.
    Difference { peers: &[Peer::ContainersStorage], make: only_common_attributes },
];

/// What a layer of this tree has become that went through an archive of `peer`.
pub(crate) fn written_by(peer: Peer, tree: &Tree) -> Tree {
    with(&LOSSES, peer, tree)
}

/// The files that containers/storage cannot write to an archive: Go's `archive/tar` refuses attributes with `=` in their names. It says so, and ends as if all had gone well.
pub(crate) fn left_out_by_containers_storage(tree: &Tree) -> BTreeSet<PathBuf> {
    let has_such = |node: &Node| node.xattrs.keys().any(|name| name.as_bytes().contains(&b'='));
    tree.nodes.iter().filter(|(_, node)| has_such(node)).map(|(path, _)| path.clone()).collect()
}

/// What `peer` is known to make of an archive of `tree`.
pub(crate) fn made_by(peer: Peer, tree: &Tree) -> Tree {
    with(&DIFFERENCES, peer, tree)
}

fn with(differences: &[Difference], peer: Peer, tree: &Tree) -> Tree {
    let mut changed = tree.clone();
    for difference in differences.iter().filter(|difference| difference.peers.contains(&peer)) {
        (difference.make)(&mut changed);
    }
    changed
}

fn set_root_mode(tree: &mut Tree, permissions: u32) {
    let root = tree.nodes.get_mut(Path::new("")).expect("a tree has a root");
    root.mode = root.mode & !0o7777 | permissions;
}

fn no_times_before_1970(tree: &mut Tree) {
    for node in tree.nodes.values_mut().filter(|node| node.mtime < (0, 0)) {
        node.mtime = (0, 0);
    }
}

fn whole_seconds(tree: &mut Tree) {
    for node in tree.nodes.values_mut() {
        node.mtime.1 = 0;
    }
}

fn only_common_attributes(tree: &mut Tree) {
    for node in tree.nodes.values_mut() {
        node.xattrs.retain(|name, _| name.as_bytes().starts_with(b"user.") || name == "security.capability");
    }
}

fn no_empty_attributes(tree: &mut Tree) {
    for node in tree.nodes.values_mut() {
        node.xattrs.retain(|_, value| !value.is_empty());
    }
}

fn equals_signs_stay_codes(tree: &mut Tree) {
    for node in tree.nodes.values_mut() {
        let xattrs = std::mem::take(&mut node.xattrs).into_iter();
        node.xattrs = xattrs.map(|(name, value)| (coded(&name), value)).collect();
    }
}

fn coded(name: &OsStr) -> OsString {
    let pieces: Vec<&[u8]> = name.as_bytes().split(|byte| *byte == b'=').collect();
    OsString::from_vec(pieces.join(&b"%3D"[..]))
}
