//! The contracts of graphdriver, and what every driver shares.
//!
//! - [`Driver`] is what a driver implements; optional powers ([`NativeDiff`], [`StagedApply`], ...) are traits of their own.
//! - [`Graph`] is what callers hold: guards for mounts, and the naive diff where a driver has nothing better.
//! - [`Registry`] chooses and opens a driver.

mod capabilities;
mod detached_mount;
mod differ;
mod driver;
mod error;
mod fs_magic;
mod graph;
mod home_lock;
mod layer_diff;
mod layer_id;
mod layer_quotas;
mod lock_file;
mod metadata_file;
mod mount;
mod mount_check;
pub mod mount_info;
mod mounting;
pub mod naive;
pub mod options;
mod powers;
mod problem;
pub mod project_quota;
mod random_name;
mod ref_counter;
mod registry;
mod size;
mod staging_dirs;
mod sync_mode;
mod temp_dirs;
pub mod trees;

pub use capabilities::{Capabilities, Feature};
pub use detached_mount::DetachedMount;
pub use differ::{Differ, DifferOutput};
pub use driver::{CreateOptions, DeferredRemoval, Driver, LayerKind, MountOptions, Quota};
pub use error::{Error, ErrorKind, Result};
pub use fs_magic::{FsMagic, fs_magic, fs_magic_of_fd};
pub use graph::Graph;
pub use graphdriver_archive::{
    Applied, ArchiveDigest, Change, ChangeKind, DedupHash, DiskUsage, IdMap, IdMaps, OVERFLOW_ID, Owner,
};
pub use home_lock::HomeLock;
pub use layer_diff::LayerDiff;
pub use layer_id::LayerId;
pub use layer_quotas::LayerQuotas;
pub use metadata_file::{sync_dir, write_atomic, write_new};
pub use mount::Mount;
pub use mount_check::{FsMagicChecker, MountChecker, MountInfoChecker};
pub use mounting::{bind_read_only, context_option, make_private, unmount_lazily};
pub use options::DriverOption;
pub use powers::{
    AdditionalLayer, AdditionalLayers, Dedup, FileGetter, IdShift, LayerApplyOptions, NativeDiff,
    StagedApply, StagedLayer,
};
pub use problem::{Problem, Remedy};
pub use ref_counter::RefCounter;
pub use registry::{DEFAULT_PRIORITY, DriverEntry, DriverHome, OpenOptions, Registry};
pub use size::{format_size, parse_size};
pub use staging_dirs::{remove_stale_staging_dirs, stale_staging_dirs};
pub use sync_mode::SyncMode;
pub use temp_dirs::{RemoveTree, TempDir, TempDirs};
