//! What runs in a guest besides the tests, and QEMU: packages of this machine's suite, unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lddtree::DependencyAnalyzer;

use super::cache;
use super::debian::Suite;
use crate::Result;

const PACKAGES: [&str; 18] = [
    "acl",
    "attr",
    "btrfs-progs",
    "busybox-static",
    "coreutils",
    "e2fsprogs",
    "fuse-overlayfs",
    "fuse3",
    "kmod",
    "libbtrfsutil1",
    "libcap2-bin",
    "libgcc-s1",
    "mount",
    "qemu-system-x86",
    "tar",
    "uidmap",
    "xfsprogs",
    "zfsutils-linux",
];

/// Programs that tests start, and `modprobe`, which the kernel starts when a file system is mounted whose module is missing.
const PROGRAMS: [&str; 27] = [
    "usr/bin/btrfs",
    "usr/bin/busybox",
    "usr/bin/chown",
    "usr/bin/cp",
    "usr/bin/fuse-overlayfs",
    "usr/bin/fusermount3",
    "usr/bin/getfacl",
    "usr/bin/getfattr",
    "usr/bin/kmod",
    "usr/bin/mount",
    "usr/bin/newgidmap",
    "usr/bin/newuidmap",
    "usr/bin/setfacl",
    "usr/bin/setfattr",
    "usr/bin/tar",
    "usr/bin/true",
    "usr/bin/umount",
    "usr/sbin/losetup",
    "usr/sbin/mkfs.btrfs",
    "usr/sbin/mkfs.ext4",
    "usr/sbin/mkfs.xfs",
    "usr/sbin/modprobe",
    "usr/sbin/setcap",
    "usr/sbin/mount.zfs",
    "usr/sbin/xfs_quota",
    "usr/sbin/zfs",
    "usr/sbin/zpool",
];

/// Where Debian's libraries are.
pub(super) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
pub(super) const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// A tree of unpacked packages, complete down to the C library.
#[derive(Clone, Debug)]
pub(super) struct Userland {
    tree: PathBuf,
}

impl Userland {
    /// The one in the cache, or else (and with `refresh`) what the archives have now.
    pub(super) fn find(refresh: bool) -> Result<Self> {
        let codename = Suite::of_this_machine()?;
        let name = format!("{codename}-{}", cache::digest(PACKAGES));
        let tree = cache::choice("userland", &name, refresh, || {
            let suite = Suite::fetch(&codename)?;
            let packages = suite.closure(&PACKAGES)?;
            let version = cache::digest(packages.iter().map(String::as_str));
            cache::entry("userland", &version, |tree| suite.unpack(&packages, tree))
        })?;
        Ok(Self { tree })
    }

    /// A tree of packages that is complete down to the C library, as [`Suite::unpack`] makes one.
    pub(super) fn at(tree: PathBuf) -> Self {
        Self { tree }
    }

    /// Tells these programs from those of every other state of the packages.
    pub(super) fn version(&self) -> String {
        let packages = self.tree.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        cache::digest([packages].into_iter().chain(PROGRAMS))
    }

    /// The guest's programs: each file, and where it belongs.
    pub(super) fn programs(&self) -> impl Iterator<Item = (PathBuf, &'static str)> {
        PROGRAMS.iter().map(|name| (self.file(name), *name))
    }

    /// A file of the tree. Links in it are meant to be followed with the tree as the root directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let file = self.tree.join(name);
        match fs::read_link(&file) {
            Ok(target) => match target.strip_prefix("/") {
                Ok(target) => self.tree.join(target),
                Err(_) => file,
            },
            Err(_) => file,
        }
    }

    /// The libraries that `program` needs, from this tree wherever the program is from: each file, and where it belongs.
    pub(super) fn libraries_of(&self, program: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
        let analyzer =
            DependencyAnalyzer::new(self.tree.clone()).library_paths(vec![self.tree.join(LIBRARIES)]);
        let needed = analyzer.analyze(program).map_err(|error| format!("{}: {error}", program.display()))?;
        let mut libraries = Vec::new();
        for library in needed.libraries.into_values() {
            let place = library.path.strip_prefix(&self.tree).ok().filter(|_| library.found());
            let place =
                place.ok_or_else(|| format!("{}: no {}", program.display(), library.name))?.to_owned();
            libraries.push((library.path, place));
        }
        Ok(libraries)
    }

    /// A program of the tree, run on this machine with the tree's own libraries.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.tree.join(LOADER));
        command.arg("--argv0").arg(program).arg("--library-path").arg(self.tree.join(LIBRARIES));
        command.arg(self.file(program));
        command
    }
}
