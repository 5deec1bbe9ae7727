//! `unpack/<layers>/<peer>/<driver>`: what we unpack is what others unpack.

use super::{Case, DRIVERS};
use crate::differences::{Peer, made_by};
use crate::layers::Chain;
use crate::unpacker::Unpacker;

/// Who can unpack what: tar knows nothing of whiteouts, umoci is given the whole image.
const PEERS: [(&str, Peer, Unpacker, &[Chain]); 3] = [
    ("gnu-tar", Peer::GnuTar, Unpacker::GnuTar, &[Chain::Base, Chain::Small, Chain::Hardlinks, Chain::Meta]),
    ("umoci", Peer::Umoci, Unpacker::Umoci, &[Chain::Image]),
    ("containers-storage", Peer::ContainersStorage, Unpacker::ContainersStorage("overlay"), &Chain::ALL),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for chain in Chain::ALL {
        for (name, peer, unpacker, _) in PEERS.into_iter().filter(|(.., chains)| chains.contains(&chain)) {
            for driver in DRIVERS {
                let name = format!("unpack/{}/{name}/{driver}", chain.name());
                cases.push(Case::new(name, move |bench| {
                    unpacker.is_here()?;
                    let ours = bench.tree(Unpacker::Ours(driver), chain)?;
                    bench.tree(unpacker, chain)?.assert_same(&made_by(peer, &ours));
                    Ok(())
                }));
            }
        }
    }
    cases
}
