//! Who keeps a dataset busy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, Result, mount_info};
use graphdriver_sys::statx::{StatxMask, statx};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::AT_STATX_DONT_SYNC;

use crate::command::{Failure, Reason};
use crate::dataset::Dataset;
use crate::home::Home;
use crate::staged::open_aside;

/// At most this many processes are named.
const NAMED: usize = 3;

/// The failure to destroy `dataset`; when it is busy, with those who keep it so, whom nothing else would tell.
pub(crate) fn explain(home: &Home, dataset: &Dataset, failure: Failure) -> Error {
    if failure.reason != Reason::Busy {
        return failure.during("destroy dataset");
    }
    let holders: Vec<String> = holders(home, dataset).into_values().collect();
    let held = match holders.len() {
        0 => "no process that can be looked at has it mounted or a file of it open, but a snapshot may be held (`zfs holds`)".to_owned(),
        count => format!(
            "{}{}",
            holders[..count.min(NAMED)].join(", "),
            if count > NAMED { format!(" and {} others", count - NAMED) } else { String::new() }
        ),
    };
    // Not `LayerInUse`: the layer is gone, its space is not.
    let detail = format!("{held}; the dataset is destroyed when the home is opened after that ended");
    Error::new(ErrorKind::Command, "destroy dataset").detail(detail).source(failure)
}

/// What processes do with the dataset, by their ids: of each mount namespace one in which it is mounted, and all that have a file of it open. Processes that end meanwhile, or may not be looked at, are passed over.
fn holders(home: &Home, dataset: &Dataset) -> BTreeMap<u32, String> {
    let device = device(home, dataset).ok();
    let mut found = BTreeMap::new();
    let mut namespaces = BTreeSet::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let process = process.path();
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let who = format!("process {pid} ({})", name.trim_end());
        if let Some(file) = device.and_then(|device| open_file(&process, device)) {
            found.insert(pid, format!("{who} has {file:?} of it open"));
            continue;
        }
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else { continue };
        if !namespaces.insert(namespace) {
            continue;
        }
        let Ok(mounts) = mount_info::mounts_of(pid) else { continue };
        if let Some(mount) = mounts.iter().find(|mount| mount.source == dataset.as_str()) {
            found.insert(pid, format!("{who} has it mounted on {:?}", mount.mount_point));
        }
    }
    found
}

/// The device number that files of the dataset have: that of every mount of it.
fn device(home: &Home, dataset: &Dataset) -> Result<u64> {
    let temp_dir = home.temp_dirs.create()?;
    let root = open_aside(dataset, &temp_dir)?;
    let root = statx(&root, c"", AtFlags::AT_EMPTY_PATH, StatxMask::empty());
    Ok(root.map_err(|errno| Error::call("statx", errno))?.dev())
}

/// A file on the device that the process has open, or stands in.
fn open_file(process: &Path, device: u64) -> Option<PathBuf> {
    let links = ["cwd", "root", "exe"].map(|link| process.join(link)).into_iter();
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut links = links.chain(open.map(|entry| entry.path()));
    links.find(|link| is_on(link, device)).and_then(|link| fs::read_link(link).ok())
}

/// Does not wait for servers of other file systems.
fn is_on(link: &Path, device: u64) -> bool {
    let flags = AtFlags::from_bits_retain(AT_STATX_DONT_SYNC) | AtFlags::AT_NO_AUTOMOUNT;
    statx(AT_FDCWD, link, flags, StatxMask::empty()).is_ok_and(|file| file.dev() == device)
}
