//! The drivers, each in the variants that must behave the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphdriver_archive::CopyMethod;
use graphdriver_aufs::Aufs;
use graphdriver_btrfs::Btrfs;
use graphdriver_core::{self as core, DriverHome, DriverOption, Graph, OpenOptions, Result};
use graphdriver_overlay::{HardLinkOverlay, MountApi, Overlay, OverlayTuning};
use graphdriver_vfs::{Vfs, VfsTuning};
use graphdriver_zfs::{Zfs, ZfsTuning};

use crate::backing::Backing;
use crate::id_mapped::IdMapped;
use crate::needs::Privilege;
use crate::served::{self, Served};

/// Which driver, for what only some promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Aufs,
    Btrfs,
    HardLink,
    Overlay,
    Vfs,
    Zfs,
}

/// A driver and the choices it is opened with.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each asked for by name")]
pub struct Configuration {
    pub name: &'static str,
    pub driver: Driver,
    open: fn(&DriverHome) -> Result<Arc<dyn core::Driver>>,
    /// A program that it runs.
    pub program: Option<&'static str>,
    /// The file systems it is tried on.
    pub runs_on: fn(Backing) -> bool,
    /// Whether cases run as root of a user namespace that is made for them.
    pub in_user_namespace: bool,
    /// Whether each mount is to show owners through maps.
    pub mounts_through_id_maps: bool,
    pub needs: Privilege,
    /// Whether the driver keeps marks of its own in attributes of the namespace `user`.
    pub user_xattrs: bool,
    /// Whether an edit of equal size is found after the file's old time was put back.
    pub finds_restored_times: bool,
    /// Whether fuse-overlayfs mounts. It marks every new directory by files in it; a path that it is given has no colon; and
    /// its version 1.10 loses what is written to a file of a lower layer through one of several names when another is removed meanwhile.
    pub by_fuse: bool,
    /// Whether layers that are filled when they are made are kept as images, which are only read whatever they are mounted for.
    pub keeps_images: bool,
    /// Whether what is only asked of ZFS is asked in process.
    pub by_libzfs: bool,
    /// Whether it is behind both ends of the plugin protocol, which has no words for much that a driver does.
    pub by_plugin: bool,
    copy: CopyMethod,
    /// Driver options that it is always opened with.
    options: &'static [&'static str],
}

const OVERLAY: Configuration = Configuration {
    name: "overlay-native",
    driver: Driver::Overlay,
    open: |home| Ok(Arc::new(Overlay::open(home)?)),
    program: None,
    runs_on: |_| true,
    in_user_namespace: false,
    mounts_through_id_maps: false,
    needs: Privilege::Capable,
    user_xattrs: false,
    finds_restored_times: true,
    by_fuse: false,
    keeps_images: false,
    by_libzfs: false,
    by_plugin: false,
    copy: CopyMethod::Auto,
    options: &[],
};

const VFS: Configuration = Configuration {
    name: "vfs-auto",
    driver: Driver::Vfs,
    open: |home| Ok(Arc::new(Vfs::open(home)?)),
    program: None,
    runs_on: |_| true,
    in_user_namespace: false,
    mounts_through_id_maps: false,
    needs: Privilege::Ordinary,
    user_xattrs: false,
    finds_restored_times: true,
    by_fuse: false,
    keeps_images: false,
    by_libzfs: false,
    by_plugin: false,
    copy: CopyMethod::Auto,
    options: &[],
};

const BTRFS: Configuration = Configuration {
    name: "btrfs-native",
    driver: Driver::Btrfs,
    open: |home| Ok(Arc::new(Btrfs::open(home)?)),
    program: None,
    runs_on: Backing::is_btrfs,
    in_user_namespace: false,
    mounts_through_id_maps: false,
    needs: Privilege::Ordinary,
    user_xattrs: false,
    finds_restored_times: true,
    keeps_images: false,
    by_libzfs: false,
    by_plugin: false,
    by_fuse: false,
    copy: CopyMethod::Auto,
    options: &[],
};

const ZFS: Configuration = Configuration {
    name: "zfs-programs",
    driver: Driver::Zfs,
    open: |home| Ok(Arc::new(Zfs::open_with(home, ZfsTuning::default().by_programs_only())?)),
    program: None,
    runs_on: |backing| backing == Backing::Zfs,
    in_user_namespace: false,
    mounts_through_id_maps: false,
    needs: Privilege::Devices,
    user_xattrs: false,
    finds_restored_times: true,
    by_fuse: false,
    keeps_images: false,
    by_libzfs: false,
    by_plugin: false,
    copy: CopyMethod::Auto,
    options: &[],
};

impl Configuration {
    pub const ALL: &[Self] = &[
        VFS,
        Self {
            name: "vfs-plain",
            open: |home| Ok(Arc::new(Vfs::open_with(home, VfsTuning::default().copying(CopyMethod::Plain))?)),
            runs_on: |backing| backing != Backing::Here,
            copy: CopyMethod::Plain,
            ..VFS
        },
        Self {
            name: "vfs-range",
            open: |home| Ok(Arc::new(Vfs::open_with(home, VfsTuning::default().copying(CopyMethod::Range))?)),
            runs_on: |backing| backing != Backing::Here,
            copy: CopyMethod::Range,
            ..VFS
        },
        Self { name: "vfs-userns", in_user_namespace: true, ..VFS },
        OVERLAY,
        Self {
            name: "overlay-naive",
            open: |home| open_overlay(home, |tuning| tuning.native_diff = false),
            runs_on: |backing| backing != Backing::Here,
            finds_restored_times: false,
            ..OVERLAY
        },
        Self {
            name: "overlay-mount2",
            open: |home| open_overlay(home, |tuning| tuning.mount_api = Some(MountApi::Mount)),
            runs_on: |backing| backing != Backing::Here,
            ..OVERLAY
        },
        Self {
            name: "overlay-metacopy",
            options: &["mountopt=metacopy=on,redirect_dir=on"],
            runs_on: |backing| backing != Backing::Here,
            ..OVERLAY
        },
        Self {
            name: "overlay-volatile",
            options: &["mountopt=volatile"],
            runs_on: |backing| backing != Backing::Here,
            ..OVERLAY
        },
        Self {
            name: "overlay-index",
            options: &["mountopt=index=on"],
            runs_on: |backing| backing != Backing::Here,
            ..OVERLAY
        },
        Self {
            name: "overlay-composefs",
            options: &["use_composefs=true"],
            keeps_images: true,
            // No image is mounted in a user namespace.
            needs: Privilege::Devices,
            runs_on: |backing| backing != Backing::Here,
            ..OVERLAY
        },
        Self {
            name: "overlay-fuse",
            options: &["mount_program=/usr/bin/fuse-overlayfs"],
            program: Some("fuse-overlayfs"),
            by_fuse: true,
            runs_on: |backing| matches!(backing, Backing::Tmpfs | Backing::Ext4),
            ..OVERLAY
        },
        Self {
            name: "overlay-idmapped",
            open: |home| Ok(Arc::new(IdMapped(Arc::new(Overlay::open(home)?)))),
            runs_on: |backing| backing != Backing::Here,
            mounts_through_id_maps: true,
            needs: Privilege::Devices,
            ..OVERLAY
        },
        Self {
            name: "overlay-hardlink",
            driver: Driver::HardLink,
            open: |home| Ok(Arc::new(HardLinkOverlay::open(home)?)),
            runs_on: |backing| matches!(backing, Backing::Tmpfs | Backing::Ext4 | Backing::Xfs),
            ..OVERLAY
        },
        Self {
            name: "aufs-native",
            driver: Driver::Aufs,
            open: |home| Ok(Arc::new(Aufs::open(home)?)),
            runs_on: |backing| matches!(backing, Backing::Tmpfs | Backing::Ext4 | Backing::Xfs),
            needs: Privilege::Devices,
            ..OVERLAY
        },
        BTRFS,
        Self {
            name: "btrfs-userns",
            in_user_namespace: true,
            // The trees may not be searched there.
            finds_restored_times: false,
            runs_on: |backing| backing == Backing::Btrfs,
            ..BTRFS
        },
        Self {
            name: "overlay-plugin",
            open: |home| Served::opened(home, graphdriver_overlay::DRIVER),
            runs_on: |backing| matches!(backing, Backing::Tmpfs | Backing::Ext4),
            by_plugin: true,
            ..OVERLAY
        },
        Self {
            name: "vfs-plugin",
            open: |home| Served::opened(home, graphdriver_vfs::DRIVER),
            runs_on: |backing| backing == Backing::Tmpfs,
            by_plugin: true,
            ..VFS
        },
        Self {
            name: "btrfs-plugin",
            open: |home| Served::opened(home, graphdriver_btrfs::DRIVER),
            runs_on: |backing| backing == Backing::Btrfs,
            by_plugin: true,
            ..BTRFS
        },
        Self { name: "overlay-userns", in_user_namespace: true, user_xattrs: true, ..OVERLAY },
        ZFS,
        #[cfg(feature = "libzfs")]
        Self { name: "zfs-libzfs", open: |home| Ok(Arc::new(Zfs::open(home)?)), by_libzfs: true, ..ZFS },
    ];

    pub fn named(name: &str) -> &'static Self {
        Self::ALL
            .iter()
            .find(|configuration| configuration.name == name)
            .expect("the name of a configuration")
    }

    /// Opens the home below `dir`.
    pub fn open(&self, dir: &Path) -> Result<Graph> {
        self.open_with(dir, &[])
    }

    pub fn open_with(&self, dir: &Path, options: &[&str]) -> Result<Graph> {
        let options = self.options.iter().chain(options).map(|text| text.parse::<DriverOption>());
        let options = options.collect::<Result<Vec<_>>>()?;
        let place = OpenOptions::new(dir.join("root"), dir.join("run")).with_options(options);
        (self.open)(&DriverHome::new(self.driver_name(), &place)?).map(Graph::new)
    }

    /// Whether it is tried on this file system.
    pub fn is_tried_on(&self, backing: Backing) -> bool {
        // With quotas of projects, once for each driver, and where they cannot be had.
        let tries_projects = ["vfs-auto", "overlay-native", "overlay-userns"].contains(&self.name);
        let fits = match backing {
            Backing::XfsQuota | Backing::Ext4Quota => tries_projects,
            Backing::BtrfsQuota | Backing::BtrfsSimpleQuota => self.driver == Driver::Btrfs,
            Backing::Zfs => self.driver == Driver::Zfs,
            _ => true,
        };
        fits && (self.runs_on)(backing)
    }

    /// Where cases are tried for which one file system will do.
    pub fn simplest(&self) -> Backing {
        match self.driver {
            Driver::Btrfs => Backing::Btrfs,
            Driver::Aufs | Driver::HardLink | Driver::Overlay | Driver::Vfs => Backing::Tmpfs,
            Driver::Zfs => Backing::Zfs,
        }
    }

    /// Also the name of the home.
    pub fn driver_name(&self) -> &'static str {
        match self.driver {
            Driver::Aufs => "aufs",
            Driver::Btrfs => "btrfs",
            Driver::HardLink => "overlay-hardlink",
            Driver::Overlay => "overlay",
            Driver::Vfs => "vfs",
            Driver::Zfs => "zfs",
        }
    }

    /// Where the driver's home is below the root.
    pub fn home_in(&self, root: &Path) -> PathBuf {
        let root = if self.by_plugin { root.join(served::NAME) } else { root.to_owned() };
        root.join(self.driver_name())
    }

    /// Whether copies share blocks; nothing is known of the file system that happens to be here.
    pub fn expects_reflinks(&self, backing: Backing) -> Option<bool> {
        (backing != Backing::Here).then(|| backing.has_reflinks() && self.copy == CopyMethod::Auto)
    }
}

fn open_overlay(home: &DriverHome, choose: fn(&mut OverlayTuning)) -> Result<Arc<dyn core::Driver>> {
    let mut tuning = OverlayTuning::default();
    choose(&mut tuning);
    Ok(Arc::new(Overlay::open_with(home, tuning)?))
}
