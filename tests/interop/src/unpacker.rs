//! Who unpacks layers, all in the same words.

use std::iter;
use std::path::PathBuf;

use graphdriver_conformance::tree::Tree;

use crate::needs::{self, Need};
use crate::peer::{containers_storage, gnu_tar, umoci};
use crate::stage::Stage;
use crate::store::Store;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unpacker {
    GnuTar,
    Umoci,
    /// With one of its drivers.
    ContainersStorage(&'static str),
    /// One of our drivers.
    Ours(&'static str),
}

/// An archive, and the id of the layer that is made from it.
pub(crate) type Layer = (&'static str, PathBuf);

impl Unpacker {
    /// Checks that it can be started here.
    pub(crate) fn is_here(self) -> Result<(), Need> {
        match self {
            Self::GnuTar => needs::program(gnu_tar::NAME),
            Self::Umoci => needs::program(umoci::NAME),
            Self::ContainersStorage(_) => needs::program(containers_storage::NAME),
            Self::Ours(_) => Ok(()),
        }
    }

    /// What it makes of `layers`, each of which lies on the one before.
    pub(crate) fn unpack(self, layers: &[Layer], stage: &Stage) -> Result<Tree, Need> {
        self.is_here()?;
        let scratch = match self {
            Self::ContainersStorage(driver) | Self::Ours(driver) => stage.scratch_for(driver)?,
            Self::GnuTar | Self::Umoci => stage.scratch()?,
        };
        let parents = iter::once(None).chain(layers.iter().map(|(id, _)| Some(*id)));
        let with_parents = layers.iter().zip(parents);
        let (top, _) = layers.last().expect("at least one layer");
        match self {
            Self::GnuTar => {
                let dir = scratch.dir("root");
                for (_, archive) in layers {
                    gnu_tar::extract(archive, &dir);
                }
                Ok(Tree::read_large(&dir))
            }
            Self::Umoci => {
                let image = umoci::Image::new(&scratch.join("image"));
                for (_, archive) in layers {
                    image.add_layer(archive);
                }
                Ok(Tree::read_large(&image.unpack(scratch.join("root"))))
            }
            Self::ContainersStorage(driver) => {
                let store = containers_storage::Store::new(driver, scratch.path());
                for ((id, archive), parent) in with_parents {
                    store.fill(id, parent, archive);
                }
                let tree = Tree::read_large(&store.mount(top));
                store.unmount(top);
                Ok(tree)
            }
            Self::Ours(driver) => {
                let store = Store::open(driver, scratch.path());
                for ((id, archive), parent) in with_parents {
                    store.fill(id, parent, archive);
                }
                Ok(store.tree(top))
            }
        }
    }
}
