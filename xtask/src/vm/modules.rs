//! The modules that a guest can load.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::initramfs::Initramfs;
use super::kernel::Kernel;
use super::userland::Userland;
use crate::Result;
use crate::command::check;

/// Directories of a kernel's own modules that tests of file systems have no use for, which are two thirds of all.
const LEFT_OUT: [&str; 3] = ["kernel/drivers", "kernel/net", "kernel/sound"];
const KEPT: [&str; 4] =
    ["kernel/drivers/block", "kernel/drivers/char", "kernel/drivers/md", "kernel/drivers/virtio"];

/// Adds the kernel's modules, with the tables by which `modprobe` finds them.
pub(super) fn add(archive: &mut Initramfs, kernel: &Kernel, userland: &Userland) -> Result<()> {
    let tree = tempfile::tempdir()?;
    let place = Path::new("usr/lib/modules").join(&kernel.release);
    fs::create_dir_all(tree.path().join(&place))?;
    // Where depmod looks differs from version to version.
    symlink("usr/lib", tree.path().join("lib"))?;
    for modules in &kernel.modules {
        for file in files_below(modules)? {
            let below = file.strip_prefix(modules)?;
            if is_wanted(below) {
                let copy = tree.path().join(&place).join(below);
                fs::create_dir_all(copy.parent().unwrap_or(tree.path()))?;
                fs::copy(&file, &copy).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
    }
    let mut depmod = userland.command("usr/sbin/depmod");
    // It misses the tables of a kernel that was given without them.
    check(depmod.arg("--basedir").arg(tree.path()).arg(&kernel.release).stderr(Stdio::null()))?;
    for file in files_below(&tree.path().join(&place))? {
        archive.file(file.strip_prefix(tree.path())?, 0o644, &file)?;
    }
    Ok(())
}

/// Whether a file of a directory of modules goes along: a module, or what depmod reads.
fn is_wanted(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    // Compressed ones have another ending behind.
    let is_module = name.split('.').skip(1).any(|part| part == "ko");
    let is_left_out = LEFT_OUT.iter().any(|directory| file.starts_with(directory))
        && !KEPT.iter().any(|directory| file.starts_with(directory));
    (is_module && !is_left_out) || name.starts_with("modules.builtin") || name == "modules.order"
}

pub(super) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let listed = fs::read_dir(&directory);
        for entry in listed.map_err(|error| format!("{}: {error}", directory.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.path().is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_for_file_systems_go_along() {
        for (file, wanted) in [
            ("kernel/fs/xfs/xfs.ko", true),
            ("kernel/fs/xfs/xfs.ko.xz", true),
            ("kernel/drivers/block/loop.ko", true),
            ("kernel/drivers/gpu/gpu.ko", false),
            ("kernel/net/ipv4/tunnel4.ko", false),
            ("updates/dkms/zfs.ko", true),
            ("modules.builtin", true),
            ("modules.builtin.modinfo", true),
            ("modules.dep", false),
            ("build/Makefile", false),
        ] {
            assert_eq!(is_wanted(Path::new(file)), wanted, "{file}");
        }
    }
}
