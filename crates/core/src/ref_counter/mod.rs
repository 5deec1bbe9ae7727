//! Counting who uses a mount, across processes.

mod record;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use nix::mount::{MntFlags, umount2};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::layer_id::LayerId;
use crate::mount_check::MountChecker;

use record::{Hold, Record};

/// Mounts a layer for its first user and unmounts it after its last one, whichever processes they are.
///
/// A reference belongs to this value, hence to its process, and ends with it however it ends; or it is *persistent*, and stays until somebody gives it back or the mount is gone.
/// What is found mounted without a reference is one of two things:
/// - *foreign*, when no record of it exists: another program's, such as a Go driver's. It is adopted as one persistent reference, so that it is not unmounted while that program uses it.
/// - *abandoned*, when it was mounted through a `RefCounter` whose process was killed. It is unmounted before the layer is mounted again, unless something in it is busy: then it is used as it is.
///
/// A mount that is unmounted behind our back is made again by the next [`acquire`](Self::acquire); its persistent references are forgotten, those of
/// running processes stay, since each of them gives its own back.
///
/// While one layer is being mounted (which may take as long as it wants, or hang), all others can be used. References are counted by layer id: a layer has one mount point.
pub struct RefCounter {
    /// `None` where nothing is ever mounted.
    checker: Option<Box<dyn MountChecker>>,
    run_dir: PathBuf,
    layers: Mutex<HashMap<LayerId, Arc<Mutex<Local>>>>,
}

/// The references of this process to one layer.
#[derive(Debug, Default)]
struct Local {
    count: u64,
    /// Present while the count is not zero.
    hold: Option<Hold>,
}

/// What is at a layer's mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A mount with references, or a foreign one that has got its reference now.
    Mounted,
    /// A mount that nobody uses.
    Abandoned,
}

impl RefCounter {
    /// Counts in files of the directory `run_dir`, which is made (0700) if need be and is for nothing else. All processes that mount the same layers must use the same one. It is best on a tmpfs, since it says nothing
    /// after a reboot.
    ///
    /// # Errors
    /// `PermissionDenied`, `Io` when the directory cannot be made.
    #[doc(alias = "NewRefCounter")]
    pub fn new(checker: Box<dyn MountChecker>, run_dir: PathBuf) -> Result<Self> {
        Self::with_checker(Some(checker), run_dir)
    }

    /// Like [`new`](Self::new), for drivers whose layers can be used without a mount: counts, so that a layer in use is not removed.
    ///
    /// With the first reference [`acquire`](Self::acquire) runs its action, with the last one [`release`](Self::release). There is nothing to adopt or to reclaim: references end with their processes, or by being given back.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn without_mounts(run_dir: PathBuf) -> Result<Self> {
        Self::with_checker(None, run_dir)
    }

    fn with_checker(checker: Option<Box<dyn MountChecker>>, run_dir: PathBuf) -> Result<Self> {
        make_run_dir(&run_dir).map_err(|error| Error::io("mkdir", &run_dir, error))?;
        Ok(Self { checker, run_dir, layers: Mutex::default() })
    }

    /// Takes a reference to the layer `id`, whose mount point is `target`, and runs `mount` if it is not mounted.
    ///
    /// Nobody else mounts, unmounts or removes this layer while `mount` runs.
    ///
    /// # Errors
    /// The error of `mount`; `Io`, `NoSpace` when the reference cannot be recorded. No reference was taken then.
    #[doc(alias = "Increment")]
    pub fn acquire(
        &self,
        id: &LayerId,
        target: &Path,
        persistent: bool,
        mount: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.acquire_any(id, target, persistent, None, mount)
    }

    /// Like [`acquire`](Self::acquire) of a counter [`without_mounts`](Self::without_mounts), but runs `prepare` with every reference, not with the first only.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_each(
        &self,
        id: &LayerId,
        persistent: bool,
        prepare: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.with_layer(id, |local, record| take(local, record, persistent, "", Some(prepare)))
    }

    /// Like [`acquire`](Self::acquire), for a mount that can be shared only by those who want the same one: `manner`, one line of text that is empty for what is usual, says which
    /// one this is.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); `LayerInUse` when the layer is mounted in another manner, which the message tells.
    pub fn acquire_in(
        &self,
        id: &LayerId,
        target: &Path,
        persistent: bool,
        manner: &str,
        mount: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.acquire_any(id, target, persistent, Some(manner), mount)
    }

    fn acquire_any(
        &self,
        id: &LayerId,
        target: &Path,
        persistent: bool,
        manner: Option<&str>,
        mount: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.with_layer(id, |local, record| {
            let mounted = match self.examine(local, &record, target)? {
                Found::Nothing => false,
                Found::Mounted => true,
                Found::Abandoned => {
                    unmount_if_idle(target).inspect_err(|error| in_use(target, error)).is_err()
                }
            };
            let manner = if mounted && self.checker.is_some() {
                share(&record, target, manner)?
            } else {
                manner.unwrap_or_default().to_owned()
            };
            take(local, record, persistent, &manner, (!mounted).then_some(mount))
        })
    }

    /// Gives back a reference to the layer `id`: one of this process if it has any, else a persistent one. Runs `unmount` after the last one, if anything is mounted at `target`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no reference to give back; the error of `unmount`, or `Io`, and then the reference is given back all the same.
    #[doc(alias = "Decrement")]
    pub fn release(&self, id: &LayerId, target: &Path, unmount: impl FnOnce() -> Result<()>) -> Result<()> {
        self.with_layer(id, |local, record| {
            let found = self.examine(local, &record, target);
            if local.count > 0 {
                local.release();
            } else {
                match record.persistent()? {
                    None | Some(0) => {
                        if found? == Found::Nothing {
                            unlink_unused(local, record)?;
                        }
                        let error = Error::new(ErrorKind::InvalidArgument, "unmount").path(target);
                        return Err(error.detail("there is no reference to give back"));
                    }
                    Some(count) => record.set_persistent(count - 1)?,
                }
            }
            if is_used(local, &record)? {
                return Ok(());
            }
            if found? != Found::Nothing {
                unmount()?;
            }
            record.unlink()
        })
    }

    /// Runs `work`, which removes the layer `id`, while it is not mounted and nobody can mount it.
    ///
    /// # Errors
    /// `LayerInUse` when there is a reference, a foreign mount, or an abandoned one that is busy; the error of `work`.
    pub fn while_unused<T>(
        &self,
        id: &LayerId,
        target: &Path,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let layer_in_use = || Error::new(ErrorKind::LayerInUse, "remove").layer(id).path(target);
        self.with_layer(id, |local, record| {
            let found = self.examine(local, &record, target)?;
            if found == Found::Abandoned {
                unmount_if_idle(target).map_err(|error| layer_in_use().detail("is busy").source(error))?;
            } else if is_used(local, &record)? {
                return Err(layer_in_use().detail("the layer is mounted"));
            }
            let result = work();
            record.unlink().and(result)
        })
    }

    /// Runs `unmount` if the layer `id` is mounted at `target` by a process that was killed, and nobody else uses it. Tells whether it was run.
    ///
    /// # Errors
    /// The error of `unmount`; `Io`.
    pub fn reclaim(&self, id: &LayerId, target: &Path, unmount: impl FnOnce() -> Result<()>) -> Result<bool> {
        self.with_layer(id, |local, record| {
            let abandoned = self.examine(local, &record, target)? == Found::Abandoned;
            if abandoned {
                unmount()?;
            }
            unlink_unused(local, record)?;
            Ok(abandoned)
        })
    }

    /// Whether anything is mounted at `target`, with or without references. Never [`without_mounts`](Self::without_mounts).
    ///
    /// # Errors
    /// As the checker's.
    pub fn is_mounted(&self, target: &Path) -> Result<bool> {
        self.checker.as_ref().map_or(Ok(false), |checker| checker.is_mounted(target))
    }

    /// Runs `work` with this process's references to the layer and with its record, both locked.
    fn with_layer<T>(&self, id: &LayerId, work: impl FnOnce(&mut Local, Record) -> Result<T>) -> Result<T> {
        let shared = Arc::clone(self.layers.lock().entry(id.clone()).or_default());
        let result = {
            let mut local = shared.lock();
            Record::lock(self.run_dir.join(id)).and_then(|record| {
                local.renew_hold(&record)?;
                work(&mut local, record)
            })
        };
        // Two owners are the map and we, so nobody waits for this lock, and nobody can come to while the map is locked.
        let mut layers = self.layers.lock();
        if Arc::strong_count(&shared) == 2 && shared.lock().count == 0 {
            layers.remove(id);
        }
        result.map_err(|error| error.layer(id))
    }

    /// Brings the record in line with what is mounted.
    fn examine(&self, local: &Local, record: &Record, target: &Path) -> Result<Found> {
        let Some(checker) = &self.checker else {
            return Ok(if is_used(local, record)? { Found::Mounted } else { Found::Nothing });
        };
        let mounted = checker.is_mounted(target)?;
        match record.persistent()? {
            None | Some(0) if !mounted => Ok(Found::Nothing),
            Some(_) if !mounted => {
                record.set_persistent(0)?;
                Ok(Found::Nothing)
            }
            _ if is_used(local, record)? => Ok(Found::Mounted),
            Some(_) => Ok(Found::Abandoned),
            None => {
                record.set_persistent(1)?;
                Ok(Found::Mounted)
            }
        }
    }
}

impl fmt::Debug for RefCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the references: a layer that is being mounted is locked.
        f.debug_struct("RefCounter")
            .field("checker", &self.checker)
            .field("run_dir", &self.run_dir)
            .finish_non_exhaustive()
    }
}

impl Local {
    /// Shows this process's references in the record, should it be another file than when they were taken, because somebody cleared the directory.
    fn renew_hold(&mut self, record: &Record) -> Result<()> {
        if let Some(hold) = &self.hold
            && !record.has(hold)?
        {
            self.hold = Some(record.hold()?);
            // For those who still hold what was removed, and are not seen any more.
            record.set_persistent(record.persistent()?.unwrap_or(1))?;
        }
        Ok(())
    }

    fn release(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            self.hold = None;
        }
    }
}

/// The manner in which the layer is mounted, if it is the one that is wanted.
fn share(record: &Record, target: &Path, wanted: Option<&str>) -> Result<String> {
    let is = record.manner()?;
    match wanted {
        Some(wanted) if is != wanted => {
            let name = |manner: &str| {
                if manner.is_empty() { "as it is on disk".to_owned() } else { manner.to_owned() }
            };
            let detail =
                format!("the layer is mounted {}, it cannot be mounted {} now", name(&is), name(wanted));
            Err(Error::new(ErrorKind::LayerInUse, "mount").path(target).detail(detail))
        }
        _ => Ok(is),
    }
}

/// Whether there is a reference of any kind.
fn is_used(local: &Local, record: &Record) -> Result<bool> {
    Ok(local.count > 0 || record.persistent()?.unwrap_or(0) > 0 || record.is_held()?)
}

/// Records one more reference, and then runs `mount`, if there is anything to be run.
fn take(
    local: &mut Local,
    record: Record,
    persistent: bool,
    manner: &str,
    mount: Option<impl FnOnce() -> Result<()>>,
) -> Result<()> {
    let before = record.persistent()?.unwrap_or(0);
    let hold = if persistent || local.hold.is_some() { None } else { Some(record.hold()?) };
    // Before mounting, so that a mount that is there has a record with a number in it.
    record.write(before + u64::from(persistent), manner)?;
    if let Some(Err(error)) = mount.map(|mount| mount()) {
        drop(hold);
        take_back(local, record, before);
        return Err(error);
    }
    if !persistent {
        local.count += 1;
        local.hold = local.hold.take().or(hold);
    }
    Ok(())
}

/// Undoes what was recorded for a mount that could not be made.
fn take_back(local: &Local, record: Record, persistent: u64) {
    let undone = record
        .set_persistent(persistent)
        .and_then(|()| if is_used(local, &record)? { Ok(()) } else { record.unlink() });
    if let Err(error) = undone {
        tracing::warn!(error = %error.report(), "the record of a mount that failed stays");
    }
}

fn unlink_unused(local: &Local, record: Record) -> Result<()> {
    if is_used(local, &record)? { Ok(()) } else { record.unlink() }
}

/// Unmounts what nobody has a reference to; fails when something in it is open, a working directory, or mounted.
///
/// Not lazily: an overlay that lives on unseen would share its upper directory with the next mount of the layer, which the kernel does not support.
fn unmount_if_idle(target: &Path) -> Result<()> {
    umount2(target, MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| Error::syscall("umount2", target, errno))
}

fn in_use(target: &Path, error: &Error) {
    tracing::info!(?target, error = %error.report(), "a mount left by a killed process is used as it is");
}

/// Makes the directory (0700) and those above it.
fn make_run_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
