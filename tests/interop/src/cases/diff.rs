//! `diff/<driver>/<who>`: what a layer changed, written by us, gives the layer back wherever it is applied.

use super::{Case, DRIVERS};
use crate::differences::{Peer, made_by};
use crate::edit::PARENTS;
use crate::peer::gnu_tar;
use crate::unpacker::Unpacker;

/// Who applies it, on layers of their own making.
const APPLIERS: [(&str, Option<Peer>, Unpacker); 7] = [
    ("umoci", Some(Peer::Umoci), Unpacker::Umoci),
    ("containers-storage-btrfs", Some(Peer::ContainersStorage), Unpacker::ContainersStorage("btrfs")),
    ("containers-storage-overlay", Some(Peer::ContainersStorage), Unpacker::ContainersStorage("overlay")),
    ("containers-storage-vfs", Some(Peer::ContainersStorage), Unpacker::ContainersStorage("vfs")),
    ("btrfs", None, Unpacker::Ours("btrfs")),
    ("overlay", None, Unpacker::Ours("overlay")),
    ("vfs", None, Unpacker::Ours("vfs")),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        for (name, peer, unpacker) in APPLIERS {
            cases.push(Case::new(format!("diff/{driver}/{name}"), move |bench| {
                unpacker.is_here()?;
                let edited = bench.edited(driver)?;
                let mut layers = bench.archives(&PARENTS)?;
                layers.push(("child", edited.diff.clone()));
                let found = unpacker.unpack(&layers, &bench.stage)?;
                let expected = peer.map_or_else(|| edited.tree.clone(), |peer| made_by(peer, &edited.tree));
                found.assert_same(&expected);
                Ok(())
            }));
        }
        cases.push(Case::new(format!("diff/{driver}/gnu-tar"), move |bench| {
            Unpacker::GnuTar.is_here()?;
            let edited = bench.edited(driver)?;
            let listed = gnu_tar::list(&edited.diff);
            assert!(!listed.is_empty());
            Ok(())
        }));
    }
    cases
}
