//! Which kernel a guest boots.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::cache;
use super::debian::Suite;
use super::userland::Userland;
use super::zfs;
use crate::Result;

/// A kernel that Debian builds for virtual machines.
#[derive(Debug)]
struct Stock {
    name: &'static str,
    codename: &'static str,
    /// What it is too old for: the beginnings of the reasons with which cases may be ignored.
    lacks: &'static [&'static str],
}

const STOCK: [Stock; 2] = [
    Stock {
        name: "debian-6.1",
        codename: "bookworm",
        // In a guest, "here" is a tmpfs unless told.
        lacks: &[
            "needs another kernel: no user.* attributes on tmpfs",
            "needs another kernel: no user.* attributes on here",
            "needs another kernel: mounts through id maps on tmpfs",
            "needs another kernel: mounts through id maps on here",
            "needs another kernel: data-only lowers of overlay",
            "needs another kernel: simple quotas of btrfs",
            "needs another kernel: AUFS",
        ],
    },
    Stock { name: "debian-6.12", codename: "trixie", lacks: &["needs another kernel: AUFS"] },
];

/// The names by which Debian's kernels are asked for, oldest first.
pub(super) fn stock_names() -> impl Iterator<Item = &'static str> {
    STOCK.iter().map(|stock| stock.name)
}

/// A kernel, ready to boot.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// As `uname -r` has it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The directories of its modules, with those below them.
    pub(super) modules: Vec<PathBuf>,
    /// What tells it from every other, if it is one that does not change.
    pub(super) version: Option<String>,
    /// Programs of ZFS that are as old as its modules, where those of the guests are older.
    pub(super) zfs: Option<Userland>,
    lacks: Option<&'static [&'static str]>,
    /// The suite that it is from.
    codename: Option<&'static str>,
}

impl Kernel {
    /// A stock kernel by its name, or one by the path of its `bzImage`; with more modules than its own.
    pub(super) fn find(wanted: &str, modules: Option<&Path>, refresh: bool) -> Result<Self> {
        let mut kernel = match STOCK.iter().find(|stock| stock.name == wanted) {
            Some(stock) => Self::stock(stock, refresh)?,
            None if wanted.contains('/') => Self::at(Path::new(wanted))?,
            None => {
                let known: Vec<&str> = stock_names().collect();
                return Err(format!("no kernel {wanted}: there are {}, or a path", known.join(", ")).into());
            }
        };
        if let Some(modules) = modules {
            kernel.modules.push(modules.to_owned());
            kernel.version = None;
        }
        Ok(kernel)
    }

    fn stock(stock: &Stock, refresh: bool) -> Result<Self> {
        let tree = cache::choice("kernels", stock.name, refresh, || {
            let suite = Suite::fetch(stock.codename)?;
            let package = suite.newest("linux-image-cloud-amd64")?;
            cache::entry("kernels", &package, |tree| suite.unpack(std::slice::from_ref(&package), tree))
        })?;
        let images = fs::read_dir(tree.join("boot"))?.collect::<Result<Vec<_>, _>>()?;
        let is_image = |path: &PathBuf| {
            path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("vmlinuz"))
        };
        let image = images.into_iter().map(|entry| entry.path()).find(is_image);
        let image = image.ok_or_else(|| format!("{}: no kernel in it", tree.display()))?;
        let version = tree.file_name().map(|name| name.to_string_lossy().into_owned());
        let release = release(&image)?;
        let modules = vec![tree.join("usr/lib/modules").join(&release)];
        let lacks = Some(stock.lacks);
        Ok(Self { release, image, modules, version, zfs: None, lacks, codename: Some(stock.codename) })
    }

    fn at(image: &Path) -> Result<Self> {
        let release = release(image)?;
        let image = image.to_owned();
        let (modules, version) = (Vec::new(), None);
        Ok(Self { release, image, modules, version, zfs: None, lacks: None, codename: None })
    }

    /// Adds the modules of ZFS, and programs that fit them. A kernel given by path has modules, or gets them with `--modules`.
    pub(super) fn add_zfs(&mut self, refresh: bool) -> Result<()> {
        let (Some(codename), Some(version)) = (self.codename, &mut self.version) else { return Ok(()) };
        let modules = zfs::modules(codename, version, &self.release, refresh)?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        *version = name(&modules);
        self.modules.push(modules);
        if let Some(tree) = zfs::programs(codename, refresh)? {
            *version = format!("{version}-with-{}", name(&tree));
            self.zfs = Some(Userland::at(tree));
        }
        Ok(())
    }

    /// Whether a case may be ignored for this reason. Nothing is known of a kernel that is given by path.
    pub(super) fn excuses(&self, reason: &str) -> bool {
        match self.lacks {
            Some(lacks) => lacks.iter().any(|lack| reason.starts_with(lack)),
            None => reason.starts_with("needs another kernel"),
        }
    }
}

/// The release of a kernel, read from its image.
fn release(image: &Path) -> Result<String> {
    let bytes = fs::read(image).map_err(|error| format!("{}: {error}", image.display()))?;
    parse_release(&bytes).ok_or_else(|| format!("{}: not a kernel image (bzImage)", image.display()).into())
}

/// Finds the version string by the header of the boot protocol: <https://docs.kernel.org/arch/x86/boot.html>.
fn parse_release(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let version = image.get(usize::from(offset) + 0x200..)?;
    let version = version.split(|byte| *byte == 0).next()?;
    // 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC ...
    let release = std::str::from_utf8(version).ok()?.split(' ').next()?;
    (!release.is_empty()).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_stands_in_the_image() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x315].copy_from_slice(b"6.12.9-rc1 (someone) ");
        assert_eq!(parse_release(&image).as_deref(), Some("6.12.9-rc1"));
        image[0x20e..0x210].copy_from_slice(&0x8000_u16.to_le_bytes());
        assert_eq!(parse_release(&image), None);
        assert_eq!(parse_release(b"#!/bin/sh\n"), None);
    }
}
