//! `check`: what is wrong with a store.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use graphdriver::{Error, Graph, LayerId};
use graphdriver_sys::ofd_lock::{LockKind, try_lock};
use serde::Serialize;

use super::Session;
use crate::args::Check;
use crate::failure::Result;
use crate::output;

#[derive(Serialize)]
struct Problem {
    /// The layer, or the file.
    what: String,
    problem: String,
}

/// Looks at the notes that the driver keeps of each layer and at what temporary directories are left; not at the layers' contents.
///
/// Opening the store has removed what dead processes left, if it could be removed.
pub(super) fn check(session: &Session, args: &Check) -> Result<u8> {
    let graph = session.store.open()?;
    if args.repair {
        graph.cleanup()?;
    }
    let mut problems = Vec::new();
    for id in graph.layers()? {
        if let Some(problem) = layer_problem(&graph, &id) {
            problems.push(Problem { what: format!("layer {id}"), problem });
        }
    }
    problems.extend(leftovers(session.store.home(&graph)?.home())?);
    if session.json {
        output::json(&problems)?;
    } else {
        let line = |problem: &Problem| format!("{}: {}", problem.what, problem.problem);
        output::print(|out| problems.iter().try_for_each(|problem| writeln!(out, "{}", line(problem))))?;
    }
    Ok(u8::from(!problems.is_empty()))
}

/// Why a layer cannot be used: its notes cannot be read, or what it is built on is gone.
fn layer_problem(graph: &Graph, id: &LayerId) -> Option<String> {
    let parent = graph.metadata(id).and_then(|_| graph.parent(id));
    let missing = parent.and_then(|parent| match parent {
        Some(parent) => Ok((!graph.exists(&parent)?).then_some(parent)),
        None => Ok(None),
    });
    match missing {
        Ok(parent) => parent.map(|parent| format!("its parent {parent} is missing")),
        Err(error) => Some(error.report().to_string()),
    }
}

/// Temporary directories of no process.
fn leftovers(home: &Path) -> Result<Vec<Problem>, Error> {
    let path = home.join("tempdirs");
    let failed = |error| Error::io("read directory", &path, error);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut problems = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let Some(id) = name.as_bytes().strip_prefix(b"temp-dir-") else { continue };
        if !is_in_use(&path, OsStr::from_bytes(id)) {
            let problem = "left by a process that is gone, and cannot be removed".to_owned();
            problems.push(Problem { what: path.join(&name).display().to_string(), problem });
        }
    }
    Ok(problems)
}

/// Whether a process holds the lock of the temporary directory `id`.
fn is_in_use(tempdirs: &Path, id: &OsStr) -> bool {
    let mut name = OsString::from("lock-");
    name.push(id);
    let lock = File::options().read(true).write(true).open(tempdirs.join(name));
    lock.is_ok_and(|lock| try_lock(&lock, 0, 0, LockKind::Exclusive) == Ok(false))
}
