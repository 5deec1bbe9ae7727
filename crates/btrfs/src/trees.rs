//! What the home brings for all that drivers of whole trees have in common.

use std::io;
use std::sync::Arc;

use graphdriver_archive::{self as archive, CompareOptions, RootDir};
use graphdriver_core::trees::{Filling, Purpose, Tree, TreeHome};
use graphdriver_core::{Change, CreateOptions, Error, LayerId, Result};
use nix::errno::Errno;

use crate::home::Home;
use crate::staged::Staged;
use crate::{changed, get, quotas};

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
        get::acquire(self, operation, id, false, || Ok(()))
    }

    fn release(&self, id: &LayerId) -> Result<()> {
        get::release(self, id)
    }

    fn open_layer(&self, operation: &'static str, id: &LayerId) -> Result<RootDir> {
        self.layers.open(operation, id)
    }

    /// Found by the ages of the trees' blocks, when one layer is a snapshot of the other, directly or through others, or both are snapshots of a third. For other pairs the answer is `None`.
    ///
    /// Where trees may not be searched, both layers are compared in full, here, since who lacks that right mostly may not mount either.
    fn compare(&self, layer: Tree<'_>, base: Tree<'_>) -> Result<Option<Vec<Change>>> {
        if let Some(reason) = no_native_diff(self) {
            tracing::info!(layer = %layer.id, %reason, "comparing both layers in full");
            return Ok(Some(archive::changes(layer.root, Some(base.root), &CompareOptions::default())?));
        }
        let found = changed::changes(&self.path, layer.root, base.root)?;
        if found.is_none() {
            tracing::info!(
                layer = %layer.id, base = %base.id,
                "comparing both layers in full, since nothing says when they were one"
            );
        }
        Ok(found)
    }

    fn begin(self: &Arc<Self>, options: &CreateOptions) -> Result<Staged> {
        Staged::new(self, options)
    }

    fn explain(&self, error: Error, layer: Tree<'_>) -> Error {
        match self.quotas.noted(layer.id) {
            Ok(limit) => quotas::explain(error, limit),
            // What failed first is what has to be told.
            Err(_) => error,
        }
    }
}

/// Why changes are found by walking both trees in full, in the kernel's words, when they are.
pub(crate) fn no_native_diff(home: &Home) -> Option<String> {
    let reason = match RootDir::open(home.layers.path()) {
        Ok(root) => changed::unavailable(&root)?,
        Err(error) => error.errno().unwrap_or(Errno::EIO),
    };
    let advice =
        if reason == Errno::EPERM { " (it takes CAP_SYS_ADMIN in the initial user namespace)" } else { "" };
    Some(format!("the file system's trees cannot be searched: {}{advice}", io::Error::from(reason)))
}
