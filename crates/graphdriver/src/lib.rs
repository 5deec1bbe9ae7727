//! Container layers on Linux: create, fill, mount, diff and remove, with the drivers you name.
//!
//! A *layer* is what a tar of a container image describes: the files that it adds, changes and removes on top of its *parent*. A
//! *driver* is one way of keeping layers on disk; each is a feature of this crate, and costs nothing where it is not named:
//!
//! | feature | driver |
//! |---|---|
//! | `aufs` | the layers of Docker's first driver, which every kernel can read and none but old ones mount |
//! | `btrfs` | subvolumes and snapshots of them, on btrfs |
//! | `overlay` (default) | directories that the kernel's overlay file system stacks; and `overlay-hardlink`, for the layers of Docker's older driver |
//! | `vfs` (default) | a copy of the parent for each layer; works everywhere |
//! | `zfs` | datasets and clones of them, on ZFS |
//! | `plugin` | any Docker graph driver plugin, as `plugin:NAME`; and serving the others as one |
//! | `full` | all of them |
//! | `libbtrfsutil` | btrfs, with help of the C library of that name before Linux 4.18 |
//! | `libzfs` | zfs, with the C library of that name, loaded where it is, for what is only asked |
//!
//! [`registry`] has the drivers; [`Registry::select`] opens the one whose layers are there already, or the best that works here; what comes out is
//! a [`Graph`], on which everything is done.
//!
//! ```
//! # #[cfg(feature = "vfs")] {
//! use graphdriver::{CreateOptions, LayerApplyOptions, LayerId, LayerKind, MountOptions, OpenOptions};
//!
//! # let mut builder = tar::Builder::new(Vec::new());
//! # let mut header = tar::Header::new_gnu();
//! # header.set_size(2);
//! # header.set_mode(0o644);
//! # builder.append_data(&mut header, "etc/motd", &b"hi"[..])?;
//! # let tar = builder.into_inner()?;
//! # let dir = tempfile::tempdir()?;
//! # let (root, run_root) = (dir.path().join("root"), dir.path().join("run"));
//! let graph = graphdriver::registry().select(Some("vfs"), &OpenOptions::new(root, run_root))?;
//!
//! // A layer from a tar: complete, or not there at all. Who is not root has to do without the owners.
//! let base: LayerId = "base".parse()?;
//! let options = LayerApplyOptions { ignore_chown_errors: true, ..LayerApplyOptions::default() };
//! graph.create_filled(&base, &CreateOptions::default(), &mut &tar[..], &options)?;
//!
//! // Another one on top, to write to.
//! let work: LayerId = "work".parse()?;
//! graph.create(&work, &CreateOptions { kind: LayerKind::ReadWrite, ..CreateOptions::on(&base) })?;
//! let mount = graph.mount(&work, &MountOptions::default())?;
//! std::fs::write(mount.path().join("hello"), "world")?;
//! mount.unmount()?;
//!
//! let changes = graph.changes(&work, Some(&base))?;
//! assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["A /hello"]);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Work on layers needs root, or root of a user namespace; vfs does with less as long as all files belong to one user. Those who write drivers of their own
//! implement [`Driver`] and add a [`DriverEntry`] to a registry.

pub use graphdriver_archive as archive;
pub use graphdriver_core::{
    AdditionalLayer, AdditionalLayers, Applied, ArchiveDigest, Capabilities, Change, ChangeKind,
    CreateOptions, Dedup, DedupHash, DeferredRemoval, DetachedMount, DiskUsage, Driver, DriverEntry,
    DriverHome, DriverOption, Error, ErrorKind, Feature, FileGetter, FsMagic, Graph, IdMap, IdMaps, IdShift,
    LayerApplyOptions, LayerDiff, LayerId, LayerKind, Mount, MountOptions, NativeDiff, OVERFLOW_ID,
    OpenOptions, Owner, Problem, Quota, Registry, Remedy, Result, StagedApply, StagedLayer, SyncMode,
    format_size, fs_magic, naive, parse_size,
};
#[cfg(feature = "plugin")]
pub use graphdriver_plugin as plugin;

/// The drivers that this crate was compiled with.
#[expect(
    clippy::missing_panics_doc,
    reason = "the names of the drivers below differ, whichever are compiled in"
)]
pub fn registry() -> Registry {
    let drivers = [
        #[cfg(feature = "overlay")]
        graphdriver_overlay::DRIVER,
        #[cfg(feature = "btrfs")]
        graphdriver_btrfs::DRIVER,
        #[cfg(feature = "aufs")]
        graphdriver_aufs::DRIVER,
        #[cfg(feature = "vfs")]
        graphdriver_vfs::DRIVER,
        #[cfg(feature = "zfs")]
        graphdriver_zfs::DRIVER,
        #[cfg(feature = "plugin")]
        graphdriver_plugin::DRIVER,
        // After the last resort: nothing new is to be made with it.
        #[cfg(feature = "overlay")]
        graphdriver_overlay::HARD_LINK_DRIVER,
    ];
    let mut registry = Registry::new();
    for driver in drivers {
        registry.register(driver).expect("drivers of one family have names of their own");
    }
    registry
}

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_drivers_that_were_named() {
        let registry = registry();
        let names: Vec<_> = registry.entries().iter().map(DriverEntry::name).collect();
        let expected = [
            (cfg!(feature = "overlay"), "overlay"),
            (cfg!(feature = "btrfs"), "btrfs"),
            (cfg!(feature = "aufs"), "aufs"),
            (cfg!(feature = "vfs"), "vfs"),
            (cfg!(feature = "zfs"), "zfs"),
            (cfg!(feature = "plugin"), "plugin:"),
            (cfg!(feature = "overlay"), "overlay-hardlink"),
        ];
        assert_eq!(
            names,
            expected.into_iter().filter_map(|(is_in, name)| is_in.then_some(name)).collect::<Vec<_>>()
        );
    }
}
