//! What a layer changes, told from the trees on disk.
//!
//! Of two trees, files that have names in both are equal without a look at them. An upper directory tells by itself what it changes of its lower layer. For other pairs the answer is `None`.

use std::sync::Arc;

use graphdriver_archive::{
    self as archive, CompareOptions, ContentCheck, Export, ExportOptions, LayerStack, RootDir,
};
use graphdriver_core::{Change, IdMaps, LayerDiff, LayerId, Result};

use super::home::Home;
use super::layer::Form;
use super::reference::Reference;

/// The change set as a tar.
pub(super) fn diff(
    home: &Arc<Home>,
    id: &LayerId,
    base: Option<&LayerId>,
    id_maps: &IdMaps,
) -> Result<Option<LayerDiff>> {
    let options = ExportOptions { id_maps: id_maps.clone() };
    let Some(pair) = Pair::open(home, id, base)? else { return Ok(None) };
    let export = match &pair.compared {
        Compared::Tree(root) => Export::tree(root, options)?,
        Compared::Trees(root, base) => Export::changes(root, changed(root, base)?, options)?,
        Compared::Stack(stack, own) => Export::layer(stack, *own, options),
    };
    let diff = LayerDiff::new(export).keeping(pair.reference);
    Ok(Some(match pair.base_reference {
        Some(reference) => diff.keeping(reference),
        None => diff,
    }))
}

/// The changed paths.
pub(super) fn changes(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
    let Some(pair) = Pair::open(home, id, base)? else { return Ok(None) };
    Ok(Some(match &pair.compared {
        Compared::Tree(root) => archive::changes(root, None, &CompareOptions::default())?,
        Compared::Trees(root, base) => changed(root, base)?,
        // A layer has one list of changes, whichever form it is kept in.
        Compared::Stack(stack, own) => archive::with_parents(archive::layer_changes(stack, *own)?),
    }))
}

/// The bytes of changed files.
pub(super) fn diff_size(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
    let Some(pair) = Pair::open(home, id, base)? else { return Ok(None) };
    Ok(Some(match &pair.compared {
        Compared::Tree(root) => archive::disk_usage(root)?.bytes,
        Compared::Trees(root, base) => archive::changes_size(root, &changed(root, base)?)?,
        Compared::Stack(stack, own) => archive::layer_size(stack, *own)?,
    }))
}

/// A layer and what it is compared with, neither of which can be removed meanwhile.
struct Pair {
    compared: Compared,
    reference: Reference,
    base_reference: Option<Reference>,
}

enum Compared {
    Tree(RootDir),
    Trees(RootDir, RootDir),
    /// The layer's own directories are as many of the uppermost.
    Stack(LayerStack, usize),
}

impl Pair {
    fn open(home: &Arc<Home>, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Self>> {
        let reference = Reference::take(home, "diff", id)?;
        let base_reference = base.map(|base| Reference::take(home, "diff", base)).transpose()?;
        let (layer, form) = home.require("diff", id)?;
        let below = base.map(|base| home.require("diff", base)).transpose()?;
        let compared = match (form, &below) {
            (Form::Tree, None) => Compared::Tree(RootDir::open(layer.root())?),
            (Form::Tree, Some((base, Form::Tree))) => {
                Compared::Trees(RootDir::open(layer.root())?, RootDir::open(base.root())?)
            }
            (Form::Upper, None) => {
                let stack = home.stack(&layer, form)?;
                let own = stack.len();
                Compared::Stack(stack, own)
            }
            (Form::Upper, Some((_, Form::Tree))) if layer.lower_id()?.as_ref() == base => {
                Compared::Stack(home.stack(&layer, form)?, 1)
            }
            _ => {
                tracing::info!(layer = %id, ?base, "comparing mounted layers, since the one does not lie on the other");
                return Ok(None);
            }
        };
        Ok(Some(Self { compared, reference, base_reference }))
    }
}

/// Contents are compared where two files are not one: there are few of them, unless a layer was given files of its own.
fn changed(root: &RootDir, base: &RootDir) -> Result<Vec<Change>> {
    let options = CompareOptions { content: ContentCheck::Content, ..CompareOptions::default() };
    Ok(archive::changes(root, Some(base), &options)?)
}
