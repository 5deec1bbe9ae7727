//! The modules of ZFS, which Debian has as source only: built once for each kernel. And programs that are as old as they are.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use super::cache;
use super::debian::Suite;
use super::initramfs::Initramfs;
use super::modules::files_below;
use super::userland::{LOADER, Userland};
use crate::Result;
use crate::command::check;

/// The source.
const SOURCE: &str = "zfs-dkms";

/// What it is built with besides what it and the headers ask for, which counts on a system with all that every system has.
const TOOLS: [&str; 12] = [
    "bash",
    "binutils",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "make",
    "mawk",
    "sed",
    "tar",
];

/// Of what they ask for, this is not for building.
const LEFT_OUT: [&str; 2] = ["linux-image-", "systemd="];

const PROGRAMS_PACKAGE: &str = "zfsutils-linux";
const PROGRAMS: [&str; 3] = ["usr/sbin/zfs", "usr/sbin/zpool", "usr/sbin/mount.zfs"];

/// The modules for the kernel of the package `kernel` (`name=version`), whose release is `release`: a directory like `/lib/modules/VERSION`.
///
/// Built from the source that the suite `codename` has now, or had when they were built first. Takes some minutes then.
pub(super) fn modules(codename: &str, kernel: &str, release: &str, refresh: bool) -> Result<PathBuf> {
    let name = format!("for-{kernel}");
    cache::choice("zfs", &name, refresh, || {
        let suite = Suite::fetch(codename)?;
        let version = kernel.split_once('=').map_or("", |(_, version)| version);
        let headers = format!("linux-headers-{release}={version}");
        let wanted: Vec<&str> = [headers.as_str(), SOURCE].into_iter().chain(TOOLS).collect();
        let needed = suite.closure(&wanted)?.into_iter();
        let needed: Vec<String> =
            needed.filter(|package| !LEFT_OUT.iter().any(|part| package.starts_with(part))).collect();
        let source = needed.iter().find(|package| package.starts_with(SOURCE));
        let source = source.ok_or_else(|| format!("{codename} has no {SOURCE}"))?;
        cache::entry("zfs", &format!("{source}-{kernel}"), |place| {
            let work = tempfile::tempdir_in(cache::directory("zfs")?)?;
            let tree = work.path().join("tree");
            suite.unpack(&needed, &tree)?;
            build(&tree, release, place)
        })
    })
}

/// Packages with the programs that fit the modules of `codename`, complete down to the C library; `None` where the guests' own are from there.
pub(super) fn programs(codename: &str, refresh: bool) -> Result<Option<PathBuf>> {
    if codename == Suite::of_this_machine()? {
        return Ok(None);
    }
    let choose = || {
        let suite = Suite::fetch(codename)?;
        let packages = suite.closure(&[PROGRAMS_PACKAGE])?;
        let version = format!("programs-{}", cache::digest(packages.iter().map(String::as_str)));
        cache::entry("zfs", &version, |tree| suite.unpack(&packages, tree))
    };
    cache::choice("zfs", &format!("programs-of-{codename}"), refresh, choose).map(Some)
}

/// Adds programs with libraries that are newer than the guest's own, and stay in the place of those: other programs run with them too, down to the C library, as on a system in the middle of an upgrade.
pub(super) fn add_programs(archive: &mut Initramfs, programs: &Userland) -> Result<()> {
    archive.file(Path::new(LOADER), 0o755, &programs.file(LOADER))?;
    PROGRAMS.iter().try_for_each(|name| archive.program(Path::new(name), &programs.file(name), programs))
}

/// Where [`add_programs`] has put libraries.
pub(super) fn libraries(programs: &Userland) -> Result<Vec<PathBuf>> {
    let mut places = vec![PathBuf::from(LOADER)];
    for name in PROGRAMS {
        places.extend(programs.libraries_of(&programs.file(name))?.into_iter().map(|(_, place)| place));
    }
    Ok(places)
}

/// Configures and compiles the source in the unpacked packages `tree`, and puts the modules into the new directory `place`.
fn build(tree: &Path, release: &str, place: &Path) -> Result<()> {
    let sources = tree.join("usr/src");
    let zfs = find(&sources, |name| name.starts_with("zfs-"))?;
    let common = find(&sources, |name| name.ends_with("-common"))?;
    let headers = sources.join(format!("linux-headers-{release}"));
    // With it there, a description of types would be made from the debugging information that is left out.
    let _ = fs::remove_file(headers.join("vmlinux"));
    prepare(tree)?;
    let log = cache::directory("logs")?.join(format!("zfs-{release}.log"));
    println!("Build the modules of ZFS for Linux {release}, which takes some minutes: {}", log.display());
    let file = File::create(&log)?;
    let inside = |path: &Path| format!("/{}", path.strip_prefix(tree).unwrap_or(path).display());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let steps = format!(
        "cd {} && ./configure --disable-dependency-tracking --with-config=kernel --with-linux={} --with-linux-obj={} && make -j{jobs}",
        inside(&zfs),
        inside(&common),
        inside(&headers)
    );
    let mut command = within(tree, &steps);
    check(command.stdout(file.try_clone()?).stderr(file))
        .map_err(|error| format!("{error}; see {}", log.display()))?;
    let modules = place.join("updates");
    fs::create_dir_all(&modules)?;
    for module in files_below(&zfs.join("module"))? {
        if module.extension() == Some(OsStr::new("ko")) {
            let mut strip = Command::new("strip");
            strip.arg("--strip-debug").arg("-o").arg(modules.join(module.file_name().unwrap_or_default()));
            check(strip.arg(&module))?;
        }
    }
    if !modules.join("zfs.ko").exists() {
        return Err(format!("no module came out of it; see {}", log.display()).into());
    }
    Ok(())
}

/// Makes what packages make when they are installed, as far as it is needed here.
fn prepare(tree: &Path) -> Result<()> {
    for directory in ["dev", "proc", "tmp"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    let programs = tree.join("usr/bin");
    // Of the version that built the kernel.
    let compiler = find(&programs, |name| {
        name.strip_prefix("gcc-").is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
    })?;
    let compiler = compiler.file_name().and_then(OsStr::to_str).unwrap_or_default();
    for (name, program) in [("awk", "mawk"), ("gcc", compiler), ("sh", "dash")] {
        let link = programs.join(name);
        if !link.exists() {
            symlink(program, link)?;
        }
    }
    Ok(())
}

/// A command of the shell with `tree` as its root directory: kernels are built with the compiler of their own suite, which runs with the libraries of that only.
fn within(tree: &Path, steps: &str) -> Command {
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    command.arg(
        r#"for directory in dev proc; do mount --rbind "/$directory" "$1/$directory"; done
exec env -i PATH=/usr/sbin:/usr/bin LC_ALL=C KCFLAGS=-g0 chroot "$1" sh -ec "$2""#,
    );
    command.arg("sh").arg(tree).arg(steps);
    command
}

/// The entry of a directory whose name fits.
fn find(directory: &Path, fits: fn(&str) -> bool) -> Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(fits) {
            return Ok(entry.path());
        }
    }
    Err(format!("{}: incomplete", directory.display()).into())
}
