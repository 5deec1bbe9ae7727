//! What the home brings for all that drivers of whole trees have in common.

use std::sync::Arc;

use graphdriver_archive::RootDir;
use graphdriver_core::trees::{Filling, Purpose, Tree, TreeHome};
use graphdriver_core::{Change, CreateOptions, Error, LayerId, MountOptions, Result, SyncMode};

use crate::home::Home;
use crate::staged::{self, Staged};
use crate::{diff, get, parse};

impl TreeHome for Home {
    type Staged = Staged;

    fn filling(&self) -> Filling {
        // A transaction of the pool is whole, and in order.
        Filling {
            ignore_chown_errors: false,
            in_user_namespace: self.in_user_namespace,
            sync: SyncMode::None,
        }
    }

    /// Readers, too, get the mount that a writer would get, who may come meanwhile and share it; and they have it where everybody sees it, as `zfs diff` needs it.
    fn acquire(&self, operation: &'static str, id: &LayerId, purpose: Purpose) -> Result<()> {
        match purpose {
            Purpose::Keep => get::keep(self, operation, id),
            Purpose::Read | Purpose::Write => {
                get::mount(self, operation, id, &MountOptions::default()).map(drop)
            }
        }
    }

    fn release(&self, id: &LayerId) -> Result<()> {
        get::release(self, id)
    }

    fn open_layer(&self, _operation: &'static str, id: &LayerId) -> Result<RootDir> {
        Ok(RootDir::open(self.mount_point(id))?)
    }

    fn compare(&self, layer: Tree<'_>, base: Tree<'_>) -> Result<Option<Vec<Change>>> {
        diff::changes(self, layer, base)
    }

    fn begin(self: &Arc<Self>, options: &CreateOptions) -> Result<Staged> {
        Staged::new(self, options)
    }

    fn explain(&self, error: Error, layer: Tree<'_>) -> Error {
        let quota = self.dataset(layer.id).and_then(|dataset| self.pool.get(&dataset, "quota"));
        // What failed first is what has to be told.
        let quota = quota.ok().flatten().and_then(|quota| parse::number(&quota));
        staged::explain(error, quota.filter(|bytes| *bytes > 0))
    }
}
