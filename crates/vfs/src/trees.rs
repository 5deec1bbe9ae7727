//! What the home brings for all that drivers of whole trees have in common.
//!
//! Both layers of a pair are walked, as in the general way; what is better here is that the moment is known at which the one was made as a copy of the other. Of the files that nobody has touched
//! since, contents need no comparing, and of the others, no edit is missed.

use std::sync::Arc;

use graphdriver_archive::{self as archive, CompareOptions, ContentCheck, RootDir};
use graphdriver_core::trees::{Filling, Purpose, Tree, TreeHome};
use graphdriver_core::{Change, CreateOptions, Error, LayerId, Result};

use crate::home::Home;
use crate::staged::Staged;

impl TreeHome for Home {
    type Staged = Staged;

    fn filling(&self) -> Filling {
        Filling {
            ignore_chown_errors: self.options.ignore_chown_errors,
            in_user_namespace: self.in_user_namespace,
            sync: self.options.sync,
        }
    }

    fn acquire(&self, operation: &'static str, id: &LayerId, _purpose: Purpose) -> Result<()> {
        self.take_reference(operation, id, false)
    }

    fn release(&self, id: &LayerId) -> Result<()> {
        self.references.release(id, &self.layers.layer(id), || Ok(()))
    }

    fn open_layer(&self, operation: &'static str, id: &LayerId) -> Result<RootDir> {
        self.layers.open(operation, id)
    }

    /// `None` unless `base` is the layer's parent.
    fn compare(&self, layer: Tree<'_>, base: Tree<'_>) -> Result<Option<Vec<Change>>> {
        let Some(note) = self.note(layer.id)?.filter(|note| note.parent == *base.id) else { return Ok(None) };
        let options =
            CompareOptions { content: ContentCheck::CopiedAt(note.copied_at), ..CompareOptions::default() };
        Ok(Some(archive::changes(layer.root, Some(base.root), &options)?))
    }

    fn begin(self: &Arc<Self>, options: &CreateOptions) -> Result<Staged> {
        Staged::new(self, options)
    }

    fn explain(&self, error: Error, layer: Tree<'_>) -> Error {
        self.quotas.explain(error, layer.root)
    }
}
