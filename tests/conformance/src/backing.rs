//! The file systems below the homes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use graphdriver_sys::btrfs::qgroup::{self, Counting};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::needs::{Need, Privilege};
use crate::zfs;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Whatever lies below the directory for temporary files; needs no privilege.
    Here,
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
    /// A pool of its own, in which each case has a dataset; only for the driver of this name.
    Zfs,
    /// Mounted with project quotas, as the next one; only for the cases about them.
    XfsQuota,
    Ext4Quota,
    /// With quotas on, which count all that a subvolume refers to; only for the driver of btrfs.
    BtrfsQuota,
    /// With quotas that count what was written to a subvolume first.
    BtrfsSimpleQuota,
}

impl Backing {
    pub const ALL: [Self; 10] = [
        Self::Here,
        Self::Tmpfs,
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Zfs,
        Self::XfsQuota,
        Self::Ext4Quota,
        Self::BtrfsQuota,
        Self::BtrfsSimpleQuota,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::XfsQuota => "xfs-quota",
            Self::Ext4Quota => "ext4-quota",
            Self::BtrfsQuota => "btrfs-quota",
            Self::BtrfsSimpleQuota => "btrfs-squota",
        }
    }

    /// Makes a new file system and mounts it on the directory `root`; a tmpfs where it is not said which kind.
    pub fn mount_new(self, root: &Path) -> Result<(), Need> {
        match self {
            Self::Here | Self::Tmpfs => mount_tmpfs(root, "1g"),
            Self::Ext4 => mount_image(root, "ext4", "mkfs.ext4", &["-q", "-F"])?,
            Self::Xfs => mount_image(root, "xfs", "mkfs.xfs", &["-q", "-f", "-m", "reflink=1"])?,
            Self::Btrfs => mount_image(root, "btrfs", "mkfs.btrfs", &["-q", "-f"])?,
            Self::Zfs => zfs::make_pool(root)?,
            Self::XfsQuota => mount_with_quota(root, "xfs", "mkfs.xfs", &["-q", "-f"])?,
            Self::Ext4Quota => {
                let options = ["-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"];
                mount_with_quota(root, "ext4", "mkfs.ext4", &options)?;
            }
            Self::BtrfsQuota => mount_btrfs(root, Counting::Shared)?,
            Self::BtrfsSimpleQuota => mount_btrfs(root, Counting::Owned)?,
        }
        Ok(())
    }

    /// Whether files can share blocks.
    pub fn has_reflinks(self) -> bool {
        matches!(self, Self::Xfs | Self::XfsQuota) || self.is_btrfs()
    }

    pub fn is_btrfs(self) -> bool {
        matches!(self, Self::Btrfs | Self::BtrfsQuota | Self::BtrfsSimpleQuota)
    }

    /// Whether it is a btrfs that counts already what its subvolumes refer to.
    pub fn counts_subvolumes(self) -> bool {
        matches!(self, Self::BtrfsQuota | Self::BtrfsSimpleQuota)
    }

    /// Whether projects can be limited.
    pub fn has_quota(self) -> bool {
        matches!(self, Self::XfsQuota | Self::Ext4Quota)
    }
}

/// Where the file systems are, each made when the first trial asks for it.
///
/// They are mounted in a mount namespace of this process alone, from loop devices that the kernel frees with the last mount and images that are unlinked at once: when the
/// process ends, in whatever way, nothing is left but an empty directory.
pub struct Stage {
    dir: TempDir,
    roots: [OnceLock<Result<PathBuf, Need>>; Backing::ALL.len()],
    private: bool,
}

impl Stage {
    /// Enters a mount namespace of its own where that is allowed. Must be called before the first thread starts.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("graphdriver-conformance-").tempdir().unwrap();
        // Ordinary users of the user namespaces below have to get through.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let private = Privilege::here() >= Privilege::Owners && unshare(CloneFlags::CLONE_NEWNS).is_ok() && {
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            true
        };
        Self { dir, roots: [const { OnceLock::new() }; Backing::ALL.len()], private }
    }

    /// A directory on the file system.
    pub fn root(&self, backing: Backing) -> Result<&Path, Need> {
        let root = self.roots[backing as usize].get_or_init(|| self.make(backing));
        root.as_deref().map_err(Clone::clone)
    }

    fn make(&self, backing: Backing) -> Result<PathBuf, Need> {
        let root = self.dir.path().join(backing.name());
        fs::create_dir(&root).unwrap();
        if backing == Backing::Here {
            return Ok(root);
        }
        if !self.private {
            return Err(Need::Root);
        }
        backing.mount_new(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        Ok(root)
    }

    /// Unmounts what was mounted, also by cases that failed. Where this is not reached, the end of the mount namespace does it.
    pub fn tear_down(&self) {
        if let Some(Ok(_)) = self.roots[Backing::Zfs as usize].get() {
            zfs::destroy_pool();
        }
        for mount in mounts_below(self.dir.path()).iter().rev() {
            umount2(mount, MntFlags::MNT_DETACH).unwrap();
        }
    }
}

/// What is mounted below the directory `dir`, in the order of mounting.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir) && point != dir).collect()
}

/// A file system in memory of `size` (as its mount option has it) on the directory `root`.
pub fn mount_tmpfs(root: &Path, size: &str) {
    mount(
        Some("tmpfs"),
        root,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(format!("size={size},mode=755").as_str()),
    )
    .unwrap();
}

/// 1 GiB, of which only what is written takes memory.
const IMAGE_BYTES: u64 = 1 << 30;

/// About as small as one can be, on the directory `root`.
pub fn mount_small_btrfs(root: &Path) -> Result<(), Need> {
    let image = make_image("mkfs.btrfs", &["-q", "-f", "--mixed"], 48 << 20)?;
    // What is deleted is given back with commits.
    run("mount", &mut mount_command(root, "btrfs", "loop,commit=1", image.path()))
}

fn mount_image(root: &Path, file_system: &str, mkfs: &'static str, options: &[&str]) -> Result<(), Need> {
    let image = make_image(mkfs, options, IMAGE_BYTES)?;
    run("mount", &mut mount_command(root, file_system, "loop", image.path()))
}

fn mount_with_quota(
    root: &Path,
    file_system: &str,
    mkfs: &'static str,
    options: &[&str],
) -> Result<(), Need> {
    let image = make_image(mkfs, options, IMAGE_BYTES)?;
    let output = mount_command(root, file_system, "loop,prjquota", image.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    // All that mount(8) says for EINVAL, which kernels without quotas answer.
    if message.contains("wrong fs type, bad option") {
        return Err(Need::Kernel(format!("{file_system} with project quotas")));
    }
    assert!(output.status.success(), "{message}");
    Ok(())
}

fn mount_btrfs(root: &Path, counting: Counting) -> Result<(), Need> {
    Backing::Btrfs.mount_new(root)?;
    match qgroup::enable(File::open(root).unwrap(), counting) {
        Err(Errno::EINVAL) => Err(Need::Kernel("simple quotas of btrfs (Linux 6.7)".to_owned())),
        result => {
            result.unwrap();
            Ok(())
        }
    }
}

fn make_image(mkfs: &'static str, options: &[&str], bytes: u64) -> Result<tempfile::NamedTempFile, Need> {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let image = tempfile::NamedTempFile::new_in(dir).unwrap();
    File::set_len(image.as_file(), bytes).unwrap();
    run(mkfs, Command::new(mkfs).args(options).arg(image.path()))?;
    Ok(image)
}

fn mount_command(root: &Path, file_system: &str, options: &str, image: &Path) -> Command {
    let mut command = Command::new("mount");
    command.args(["-t", file_system, "-o", options]).arg(image).arg(root);
    command
}

pub fn run(program: &'static str, command: &mut Command) -> Result<(), Need> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = match command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Need::Program(program)),
        output => output.unwrap(),
    };
    let message = String::from_utf8_lossy(&output.stderr);
    // What mount(8) says for ENODEV, and where there are no loop devices at all.
    if message.contains("unknown filesystem type") || message.contains("failed to setup loop device") {
        return Err(Need::Kernel(message.trim().to_owned()));
    }
    assert!(output.status.success(), "{command:?}: {message}");
    Ok(())
}
