//! `mount`, `unmount`, `unshare`.

use std::convert::Infallible;
use std::env;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use graphdriver::{Error, ErrorKind, Graph, IdMaps, LayerId, MountOptions};
use graphdriver_sys::mount_point::is_mount_point;
use nix::fcntl::AT_FDCWD;
use serde::Serialize;

use super::Session;
use crate::args::{Mount, Unshare};
use crate::failure::Result;
use crate::output;
use crate::shared_namespace::offer;
use crate::user_namespace::Privilege;

#[derive(Serialize)]
struct Mounted<'a> {
    path: &'a Path,
}

pub(super) fn mount(session: &Session, args: &Mount) -> Result {
    let graph = session.store.open()?;
    let id_maps = args.ids.maps()?;
    require_shifting(&graph, &id_maps)?;
    let options = MountOptions {
        read_only: args.ro,
        volatile: args.volatile,
        id_maps,
        extra: args.options.clone(),
        ..MountOptions::default()
    };
    let mount = graph.mount(&args.id, &options)?;
    if session.privilege.is_own_namespace() && is_mounted(mount.path())? {
        mount.unmount()?;
        return Err(needs_lasting_namespace("mount").into());
    }
    let path = mount.keep()?;
    if session.json {
        return output::json(&Mounted { path: &path });
    }
    output::line(path.as_os_str().as_bytes())
}

/// The owners that are shown are to be those that were asked for.
fn require_shifting(graph: &Graph, maps: &IdMaps) -> Result<(), Error> {
    let shift = graph.driver().id_shift();
    if maps.is_identity() || shift.is_some_and(|shift| shift.supports_shifting(maps)) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::NotSupported, "mount").driver(graph.name());
    Err(error.detail("mounts cannot show other owners than the disk has here; `graphdriver info` says why"))
}

fn is_mounted(path: &Path) -> Result<bool, Error> {
    is_mount_point(AT_FDCWD, path).map_err(|error| Error::io("statx", path, error))
}

pub(super) fn unmount(session: &Session, id: &LayerId) -> Result {
    let graph = session.store.open()?;
    match graph.unmount(id) {
        Err(error) if error.kind() == ErrorKind::InvalidArgument && session.privilege.is_own_namespace() => {
            // Whatever is mounted is so in another namespace, if this driver mounts at all.
            let mount = graph.mount(id, &MountOptions::read_only())?;
            let mounts = is_mounted(mount.path())?;
            mount.unmount()?;
            Err(if mounts { needs_lasting_namespace("unmount") } else { error }.into())
        }
        result => Ok(result?),
    }
}

fn needs_lasting_namespace(command: &'static str) -> Error {
    Error::new(ErrorKind::NotSupported, command)
        .detail("a mount of an ordinary user ends with the process that made it; run this inside `graphdriver unshare`")
}

/// Becomes the command; returns why it could not.
///
/// What it starts finds the same store, although everybody is root in there.
pub(super) fn unshare(session: &Session, args: &Unshare) -> Result<Infallible> {
    if session.privilege == Privilege::None {
        let error = Error::new(ErrorKind::NotSupported, "unshare");
        return Err(error.detail("this kernel lets ordinary users make no user namespaces").into());
    }
    let options = session.store.options();
    if session.privilege.is_own_namespace() {
        offer(&options.run_root).map_err(|error| Error::io("write", &options.run_root, error))?;
    }
    let shell = || env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = match args.command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (shell(), [].as_slice()),
    };
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env("GRAPHDRIVER_ROOT", &options.root)
        .env("GRAPHDRIVER_RUN_ROOT", &options.run_root)
        .envs(options.image_store.as_ref().map(|store| ("GRAPHDRIVER_IMAGESTORE", store)));
    Err(Error::io("execute", program, command.exec()).into())
}
