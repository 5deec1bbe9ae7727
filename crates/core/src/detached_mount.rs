//! A mounted layer that is attached nowhere, as a guard.

use std::any::Any;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::layer_id::LayerId;

/// A mount of a layer that only those see who have the descriptor, made by [`IdShift::mount_detached`](crate::IdShift::mount_detached).
///
/// Nobody shares it, nothing is to be unmounted, and it ends with its process. While the guard lives the layer is not removed, filled, or given to other owners. In a child made
/// by `fork` dropping the guard closes the child's descriptor and nothing else.
#[must_use = "dropping the guard ends the mount"]
pub struct DetachedMount {
    layer: LayerId,
    mount: OwnedFd,
    /// Dropped after the mount.
    guard: Option<Box<dyn Any + Send + Sync>>,
    owner: u32,
}

impl DetachedMount {
    /// The root of the mounted layer as a descriptor, and what keeps the layer until the mount is gone.
    pub fn new(layer: &LayerId, mount: OwnedFd, guard: impl Send + Sync + 'static) -> Self {
        Self { layer: layer.clone(), mount, guard: Some(Box::new(guard)), owner: std::process::id() }
    }

    /// The layer that is mounted.
    pub fn layer(&self) -> &LayerId {
        &self.layer
    }

    /// A path to the root directory of the mounted layer, for this process while the guard lives (`/proc/self/fd/...`).
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.mount.as_raw_fd()).into()
    }
}

/// The root directory, for the system calls that end in `at`; or for [`move_mount(2)`](https://man7.org/linux/man-pages/man2/move_mount.2.html), which attaches the mount
/// where it then stays until it is unmounted there. It should not outlive the guard.
impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl Drop for DetachedMount {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            std::mem::forget(self.guard.take());
        }
    }
}

impl fmt::Debug for DetachedMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedMount")
            .field("layer", &self.layer)
            .field("mount", &self.mount)
            .finish_non_exhaustive()
    }
}
