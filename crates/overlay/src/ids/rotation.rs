//! Rewriting the owners of a layer's files.
//!
//! A layer shows its parents' files too, so they are all copied up, with their new owners, into a directory of the layer. That is done in a
//! temporary directory, on a mount that nobody sees; then the layer's directories are rotated: what was copied becomes `diff1`, earlier rotated ones
//! move down by one, and `diff` is empty again. A `diff` that was not empty becomes `diff2`.
//!
//! Several renames are needed, so what is to become of them is decided by one: the directory `rotation`, once it is in the layer, holds what is new. Who
//! uses the layer next carries on where a killed process stopped:
//! 1. While the directory is called `rotation`, all that moves is moved into it, under its new name.
//! 2. It is renamed to `rotated`. From then on all that is in it is moved out of it.

use std::borrow::Cow;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::is_overlay_xattr;
use graphdriver_archive::{self as archive, RootDir};
use graphdriver_core::{Error, ErrorKind, IdMaps, LayerId, Owner, Result, sync_dir};
use graphdriver_sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::composefs;
use crate::create::{DirectoryLook, make_dir};
use crate::home::Home;
use crate::layout::{DIFF, LayerDir, WORK};
use crate::lowers::{self, MAX_LOWERS};
use crate::mask;
use crate::mount::{Attributes, Composed, OverlayMount, Parameters, Part, Shape, Upper, Wishes};
use crate::remove;

const GATHERING: &str = "rotation";
const SCATTERING: &str = "rotated";

/// Gives everything that the layer shows to the ids of other maps.
///
/// # Errors
/// `LayerUnknown`; `LayerInUse` while it is mounted, or another layer lies on it; `InvalidArgument` for an owner without place in `to_container`, naming the file,
/// and where the layer would get one directory more than the kernel stacks; `NoSpace`; `Io`. The layer is as it was.
pub(crate) fn update(home: &Home, id: &LayerId, to_container: &IdMaps, to_host: &IdMaps) -> Result<()> {
    let operation = "change owners of";
    let layer = home.stores.require(operation, id)?;
    layer.require_own(operation)?;
    remove::require_no_child(&home.stores, operation, &layer)?;
    home.references.while_unused(id, &layer.merged(), || {
        layer.require(operation)?;
        finish(&layer)?;
        let temp_dir = home.temp_dirs_of(home.stores.store_of(&layer)).create()?;
        home.quotas.join(temp_dir.dir(), layer.path())?;
        let rotation = prepare(home, &layer, temp_dir.path(), to_container, to_host)?;
        flush(home, &rotation)?;
        rename(&rotation, &layer.path().join(GATHERING))?;
        finish(&layer)
    })
}

/// Carries on what a killed process began with the layer, unless it is in use, which it can be only after that was done.
///
/// # Errors
/// `Io`.
pub(crate) fn finish_pending(home: &Home, layer: &LayerDir) -> Result<()> {
    if !is_pending(layer) {
        return Ok(());
    }
    home.references.while_unused(layer.id(), &layer.merged(), || finish(layer))
}

/// Carries on what killed processes began with any layer.
///
/// # Errors
/// `Io` when the home cannot be read; what cannot be done for a layer now is tried again when it is used.
pub(crate) fn finish_all(home: &Home) -> Result<()> {
    for layer in home.stores.layers()? {
        if let Err(error) = finish_pending(home, &layer) {
            tracing::warn!(layer = %layer.id(), error = %error.report(), "a change of owners is not finished");
        }
    }
    Ok(())
}

fn is_pending(layer: &LayerDir) -> bool {
    let begun = [GATHERING, SCATTERING].iter().any(|name| layer.path().join(name).is_dir());
    begun && !layer.is_foreign()
}

/// Makes the directory that is to be put into the layer: with `diff1`, and with a new `diff` if the present one must be kept.
fn prepare(
    home: &Home,
    layer: &LayerDir,
    temp_dir: &Path,
    to_container: &IdMaps,
    to_host: &IdMaps,
) -> Result<PathBuf> {
    let lenient = home.options.ignore_chown_errors;
    let look = DirectoryLook::of(&layer.diff())?;
    let directory = |path: PathBuf, look| make_dir(&path, look, lenient).map(|()| path);
    let private = DirectoryLook { mode: 0o700, owner: look.owner };
    let rotation = directory(temp_dir.join(GATHERING), private)?;
    let mut roots = vec![directory(rotation.join(rotated(1)), look)?];
    if !is_blank(&layer.diff())? {
        roots.push(directory(rotation.join(DIFF), look)?);
    }
    for root in &roots {
        archive::chown_root(&RootDir::open(root)?, to_container, to_host)?;
    }
    let work = directory(temp_dir.join(WORK), private)?;
    let target = directory(temp_dir.join("stage"), private)?;
    let below = lowers::resolve(&home.stores, layer)?;
    let own = layer.diffs();
    let own = own.into_iter().map(|path| Part::Directory(Cow::from(path)));
    let parts: Vec<Part<'_>> = own.chain(lowers::parts(&below).cloned()).collect();
    if mask::hides_any(home, parts.iter().filter(|part| !part.is_image()).map(Part::path))? {
        let detail = "its files, or those of a layer below, were written under force_mask and do not have their owners on disk; mounts show other owners";
        return Err(Error::new(ErrorKind::NotSupported, "change owners of")
            .path(layer.path())
            .detail(detail));
    }
    let data_only: Vec<Cow<'_, Path>> = lowers::objects(&below).map(Cow::from).collect();
    let lowers = parts.len() + data_only.len();
    if lowers > MAX_LOWERS {
        let detail = format!("{lowers} layers below; the kernel stacks {MAX_LOWERS}");
        return Err(Error::new(ErrorKind::InvalidArgument, "change owners of").detail(detail));
    }
    // Otherwise the kernel flushes each file that it copies.
    let wishes = Wishes { volatile: true, ..Wishes::default() };
    let dialect = home.support.dialect;
    let shape = Shape { upper: true, data_only: !data_only.is_empty() };
    let parameters = Parameters::new(&wishes, dialect, shape)?;
    let mount = OverlayMount {
        lowers: &[],
        data_only: &data_only,
        upper: Some(Upper { directory: &roots[0], work: &work }),
        target: &target,
        parameters: &parameters,
        label: None,
        attributes: Attributes::NONE,
    };
    let how = composefs::how_for(home, &parts)?;
    let composed = Composed { mount, parts: &parts, shown: None, api: dialect.api, how };
    let shown = RootDir::from_fd(composed.detached()?, layer.diff());
    archive::chown_tree(&shown, to_container, to_host)?;
    Ok(rotation)
}

/// Does what is left to be done once the new directories are in the layer, which the caller has locked and nobody uses; nothing for any other layer.
///
/// # Errors
/// `Io`.
pub(crate) fn finish(layer: &LayerDir) -> Result<()> {
    if layer.is_foreign() {
        return Ok(());
    }
    let gathering = layer.path().join(GATHERING);
    let scattering = layer.path().join(SCATTERING);
    if gathering.is_dir() {
        gather(layer, &gathering)?;
        rename(&gathering, &scattering)?;
    }
    if scattering.is_dir() {
        scatter(layer, &scattering)?;
        RootDir::open(layer.path())?.remove_all(Path::new(SCATTERING))?;
    }
    Ok(())
}

fn gather(layer: &LayerDir, rotation: &Path) -> Result<()> {
    let new_diff = rotation.join(DIFF);
    let keeps_diff = new_diff.is_dir();
    let by = if keeps_diff { 2 } else { 1 };
    for number in rotated_numbers(layer.path())? {
        rename(&layer.path().join(rotated(number)), &rotation.join(rotated(number + by)))?;
    }
    // The layer has a diff at every moment. The one that is kept is not blank, and so tells whether the two have changed places.
    if keeps_diff && is_blank(&new_diff)? {
        renameat2(AT_FDCWD, &new_diff, AT_FDCWD, &layer.diff(), RenameFlags::RENAME_EXCHANGE)
            .map_err(|errno| Error::syscall("renameat2", &new_diff, errno))?;
    }
    Ok(())
}

fn scatter(layer: &LayerDir, rotation: &Path) -> Result<()> {
    let kept = rotation.join(DIFF);
    if kept.is_dir() {
        rename(&kept, &layer.path().join(rotated(2)))?;
    }
    for number in rotated_numbers(rotation)? {
        rename(&rotation.join(rotated(number)), &layer.path().join(rotated(number)))?;
    }
    let owner = DirectoryLook::of(&layer.path().join(rotated(1)))?.owner;
    renew_diff(&layer.diff(), owner)?;
    renew_work(layer, &rotation.join(WORK))?;
    let dir = File::open(layer.path()).map_err(|error| Error::io("open", layer.path(), error))?;
    sync_dir(&dir).map_err(|error| error.path(layer.path()))
}

/// Makes a blank `diff` that was there before like a new one: overlay has noted there which directories it was mounted with.
fn renew_diff(diff: &Path, owner: Owner) -> Result<()> {
    let failed = |call| move |errno| Error::syscall(call, diff, errno);
    let dir = File::open(diff).map_err(|error| Error::io("open", diff, error))?;
    for name in overlay_xattrs(&dir).map_err(failed("flistxattr"))? {
        xattr::fremove(&dir, name.as_c_str()).map_err(failed("fremovexattr"))?;
    }
    fchown(&dir, Some(owner.uid), Some(owner.gid)).map_err(|error| Error::io("chown", diff, error))
}

/// What overlay keeps in `work` (its index) is about the directories as they were.
fn renew_work(layer: &LayerDir, old: &Path) -> Result<()> {
    let work = layer.work();
    if !old.exists() && work.exists() {
        rename(&work, old)?;
    }
    if work.exists() || !old.exists() {
        return Ok(());
    }
    make_dir(&work, DirectoryLook::of(old)?, true)
}

fn rotated(number: u32) -> String {
    format!("{DIFF}{number}")
}

/// The numbers of the rotated directories in `dir`.
fn rotated_numbers(dir: &Path) -> Result<Vec<u32>> {
    let failed = |error| Error::io("read directory", dir, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(DIFF)?.parse().ok());
        // As it is written here, or it is something else: not `diff01`.
        numbers.extend(number.filter(|number| name == *rotated(*number)));
    }
    Ok(numbers)
}

/// Whether the directory says nothing of the layer: holds nothing, and does not hide what is below it either.
fn is_blank(dir: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(dir).map_err(|error| Error::io("read directory", dir, error))?;
    if entries.next().is_some() {
        return Ok(false);
    }
    let open = File::open(dir).map_err(|error| Error::io("open", dir, error))?;
    let names = overlay_xattrs(&open).map_err(|errno| Error::syscall("flistxattr", dir, errno))?;
    Ok(!names.iter().any(|name| name.to_bytes().ends_with(b".opaque")))
}

fn overlay_xattrs(dir: &File) -> nix::Result<Vec<CString>> {
    let names = match xattr::flist(dir) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    Ok(names.iter().filter(|name| is_overlay_xattr(name.to_bytes())).map(ToOwned::to_owned).collect())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("rename", from, error))
}

/// Flushes what was copied, if that is asked for.
fn flush(home: &Home, dir: &Path) -> Result<()> {
    let open = File::open(dir).map_err(|error| Error::io("open", dir, error))?;
    home.options.sync.flush(&open).map_err(|error| error.path(dir))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use graphdriver_core::LayerId;

    use super::*;
    use crate::layout::Layout;

    /// A layer whose directories hold one file each, named after what the directory is at first.
    struct Layer {
        _temp: tempfile::TempDir,
        dir: LayerDir,
    }

    impl Layer {
        fn new(diff_is_empty: bool) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let id: LayerId = "layer".parse().unwrap();
            let layer = Self { dir: Layout::own(temp.path().to_owned()).layer(&id), _temp: temp };
            for name in ["diff1", "diff2", "rotation/diff1", "work/work"] {
                layer.make(name, Some(name));
            }
            layer.make("diff", Some("diff").filter(|_| !diff_is_empty));
            if !diff_is_empty {
                layer.make("rotation/diff", None);
            }
            layer
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn make(&self, name: &str, file: Option<&str>) {
            fs::create_dir_all(self.path(name)).unwrap();
            if let Some(file) = file {
                fs::write(self.path(name).join(file.replace('/', " ")), b"").unwrap();
            }
        }

        /// What is in each directory.
        fn found(&self) -> BTreeMap<String, Vec<String>> {
            let names = |dir: &Path| {
                let entries = fs::read_dir(dir).unwrap();
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
            };
            names(self.dir.path()).into_iter().map(|name| (name.clone(), names(&self.path(&name)))).collect()
        }
    }

    type Step = Box<dyn Fn(&Layer)>;

    /// The steps that a process may have done before it was killed, in their order.
    fn steps(diff_is_empty: bool) -> Vec<Step> {
        fn step(from: &'static str, to: &'static str) -> Step {
            Box::new(move |layer| fs::rename(layer.path(from), layer.path(to)).unwrap())
        }
        let exchange = |layer: &Layer| {
            let (new, old) = (layer.path("rotation/diff"), layer.path("diff"));
            renameat2(AT_FDCWD, &new, AT_FDCWD, &old, RenameFlags::RENAME_EXCHANGE).unwrap();
        };
        let mut steps = if diff_is_empty {
            vec![
                step("diff1", "rotation/diff2"),
                step("diff2", "rotation/diff3"),
                step("rotation", "rotated"),
            ]
        } else {
            vec![
                step("diff2", "rotation/diff4"),
                step("diff1", "rotation/diff3"),
                Box::new(exchange),
                step("rotation", "rotated"),
                step("rotated/diff", "diff2"),
                step("rotated/diff4", "diff4"),
            ]
        };
        steps.extend([
            step("rotated/diff3", "diff3"),
            step("rotated/diff1", "diff1"),
            step("work", "rotated/work"),
            Box::new(|layer: &Layer| fs::create_dir(layer.path("work")).unwrap()) as Step,
            Box::new(|layer: &Layer| {
                RootDir::open(layer.path("rotated")).unwrap().remove_all(Path::new(WORK)).unwrap();
            }),
        ]);
        steps
    }

    #[test]
    fn a_killed_process_is_carried_on_from_every_step() {
        for diff_is_empty in [true, false] {
            let mut expected: Vec<(&str, Vec<&str>)> =
                vec![("diff", vec![]), ("diff1", vec!["rotation diff1"]), ("work", vec![])];
            expected.extend(if diff_is_empty {
                vec![("diff2", vec!["diff1"]), ("diff3", vec!["diff2"])]
            } else {
                vec![("diff2", vec!["diff"]), ("diff3", vec!["diff1"]), ("diff4", vec!["diff2"])]
            });
            let owned = |(name, files): (&str, Vec<&str>)| {
                (name.to_owned(), files.into_iter().map(str::to_owned).collect::<Vec<_>>())
            };
            let expected: BTreeMap<_, _> = expected.into_iter().map(owned).collect();
            let steps = steps(diff_is_empty);
            for done in 0..=steps.len() {
                let layer = Layer::new(diff_is_empty);
                for step in &steps[..done] {
                    step(&layer);
                    assert!(layer.dir.exists().unwrap(), "the layer is there at every moment");
                }
                assert!(is_pending(&layer.dir));
                finish(&layer.dir).unwrap();
                assert_eq!(layer.found(), expected, "after {done} steps, empty: {diff_is_empty}");
                finish(&layer.dir).unwrap();
                assert_eq!(layer.found(), expected);
            }
        }
    }
}
