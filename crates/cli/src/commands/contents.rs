//! `apply`, `diff`, `changes`, `diffsize`.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use graphdriver::{CreateOptions, Error, ErrorKind, Graph, IdMaps, LayerApplyOptions, LayerDiff, LayerId};
use serde::Serialize;

use super::Session;
use crate::archive_stream::ArchiveStream;
use crate::args::{Apply, Compare, Diff};
use crate::digest::Digest;
use crate::failure::{Failure, Result};
use crate::output::{self, ChangeRecord};

/// Bytes of a diff that are written at a time; larger ones cost more in first touches of memory than they save in system calls.
const DIFF_BUFFER: usize = 128 * 1024;

#[derive(Serialize)]
struct AppliedLayer<'a> {
    id: &'a str,
    size: u64,
    diff_id: Digest,
    entries: u64,
}

pub(super) fn apply(session: &Session, args: &Apply) -> Result {
    let source = open_tar(args.tar.as_deref())?;
    let graph = session.store.open()?;
    let mut archive = ArchiveStream::new(source)?;
    let create = CreateOptions { parent: args.parent.clone(), ..CreateOptions::default() };
    let options =
        LayerApplyOptions { digest: true, skip_record: args.no_record, ..LayerApplyOptions::default() };
    let applied = graph
        .create_filled(&args.id, &create, &mut archive, &options)
        .map_err(|error| session.privilege.explain(error))?;
    archive.finish().map_err(|error| Error::io("read", "archive", error))?;
    let id = args.id.as_str();
    output::json(&AppliedLayer {
        id,
        size: applied.bytes,
        diff_id: Digest::of_archive(&applied)?,
        entries: applied.entries,
    })
}

fn open_tar(path: Option<&Path>) -> Result<File, Error> {
    match path.filter(|path| *path != Path::new("-")) {
        Some(path) => File::open(path).map_err(|error| Error::io("open", path, error)),
        None if io::stdin().is_terminal() => Err(Error::new(ErrorKind::InvalidArgument, "apply")
            .detail("standard input is a terminal; name a tar, or send one through a pipe")),
        None => {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            Ok(stdin.map_err(|error| Error::io("dup", "standard input", error))?.into())
        }
    }
}

pub(super) fn diff(session: &Session, args: &Diff) -> Result {
    if args.output.is_none() && io::stdout().is_terminal() {
        let error = Error::new(ErrorKind::InvalidArgument, "diff");
        return Err(error.detail("standard output is a terminal; name a file with -o, or use a pipe").into());
    }
    let graph = session.store.open()?;
    let base = base(&graph, &args.compare)?;
    let mut diff = graph.diff(&args.compare.id, base.as_ref(), &IdMaps::default())?;
    match &args.output {
        None => copy(&mut diff, &mut io::stdout().lock(), Failure::of_output)?,
        Some(path) => write_file(&mut diff, path)?,
    }
    Ok(diff.finish()?)
}

/// Writes to a temporary file, which then takes the name: there is a whole diff at `path`, or what was there before.
fn write_file(diff: &mut LayerDiff, path: &Path) -> Result {
    let failed = |error| Failure::from(Error::io("write", path, error));
    if is_special(path) {
        let mut file = File::options().write(true).open(path).map_err(failed)?;
        return copy(diff, &mut file, failed);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".graphdriver-diff-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(failed)?;
    copy(diff, file.as_file_mut(), failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Whether something is there that a new file must not replace: a device, a pipe, a link.
fn is_special(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

fn copy(diff: &mut LayerDiff, out: &mut dyn Write, failed: impl Fn(io::Error) -> Failure) -> Result {
    let mut buffer = vec![0; DIFF_BUFFER];
    loop {
        match diff.read(&mut buffer) {
            Ok(0) => return out.flush().map_err(failed),
            Ok(read) => out.write_all(&buffer[..read]).map_err(&failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_failed(error).into()),
        }
    }
}

fn read_failed(error: io::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::new(ErrorKind::Io, "read diff").source(error))
}

pub(super) fn changes(session: &Session, args: &Compare) -> Result {
    let graph = session.store.open()?;
    let base = base(&graph, args)?;
    print_changes(session, &graph, &args.id, base.as_ref())
}

/// What `id` changed, in the form that was asked for.
pub(super) fn print_changes(
    session: &Session,
    graph: &Graph,
    id: &LayerId,
    base: Option<&LayerId>,
) -> Result {
    let changes = graph.changes(id, base)?;
    if session.json {
        return output::json(&changes.iter().map(ChangeRecord::from).collect::<Vec<_>>());
    }
    output::changes(&changes)
}

#[derive(Serialize)]
struct DiffSize {
    bytes: u64,
}

pub(super) fn diffsize(session: &Session, args: &Compare) -> Result {
    let graph = session.store.open()?;
    let base = base(&graph, args)?;
    let bytes = graph.diff_size(&args.id, base.as_ref())?;
    if session.json {
        return output::json(&DiffSize { bytes });
    }
    output::line(bytes.to_string())
}

/// The layer to compare with: the one that was named, or the parent.
fn base(graph: &Graph, args: &Compare) -> Result<Option<LayerId>, Error> {
    match &args.parent {
        Some(parent) => Ok(Some(parent.clone())),
        None => graph.parent(&args.id),
    }
}
