//! What lies in a store and is no layer.

use std::fs;
use std::io;
use std::path::Path;

use graphdriver_core::{Error, LayerId, Result};

use crate::home::Home;
use crate::layout::{DIFF, EMPTY, LINK, LOWER, LayerDir, MERGED, WORK, is_of_driver};
use crate::link;

use super::repair::{Cure, Finding};
use super::survey::Survey;

pub(super) fn find(home: &Home, survey: &Survey<'_>) -> Result<Vec<Finding>> {
    let path = survey.store.path();
    let failed = |error| Error::io("read directory", path, error);
    let mut findings = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if is_of_driver(&name) {
            continue;
        }
        let id: Option<LayerId> = name.to_str().and_then(|name| name.parse().ok());
        let is_dir = entry.file_type().map_err(failed)?.is_dir();
        match id.filter(|_| is_dir).map(|id| survey.store.layer(&id)) {
            Some(layer) if layer.exists()? => {}
            Some(layer) => findings.push(incomplete(home, survey, &layer)?),
            None => findings.push(Finding {
                layer: None,
                path: entry.path(),
                what: "is neither a layer nor a file of the driver".to_owned(),
                cure: Cure::Advice("look what it is, and move it elsewhere".to_owned()),
            }),
        }
    }
    findings.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(findings)
}

/// A directory of a layer's name without contents of its own: what a killed process of another program leaves.
fn incomplete(home: &Home, survey: &Survey<'_>, layer: &LayerDir) -> Result<Finding> {
    let name = link::read(layer)?.or_else(|| {
        let entry = survey.entries.iter().find(|entry| entry.layer.as_ref() == Some(layer.id()));
        entry.and_then(|entry| entry.link.clone())
    });
    let cure = if !is_bare(layer.path())? {
        Cure::Advice("there is something in it; look what it is before you remove the layer".to_owned())
    } else if name.is_some_and(|name| survey.wanted.contains(&name)) {
        Cure::Advice("layers lie on it and cannot be mounted; restore it, or remove them".to_owned())
    } else if home.references.is_mounted(&layer.merged())? {
        Cure::Advice("something is mounted in it".to_owned())
    } else {
        Cure::Discard(layer.clone())
    };
    Ok(Finding {
        layer: Some(layer.id().clone()),
        path: layer.path().to_owned(),
        what: format!("it has no {DIFF}: a process was killed while it made or removed the layer"),
        cure,
    })
}

/// Whether the directory holds nothing that anybody has written: only what drivers make before `diff`, or leave after it.
fn is_bare(path: &Path) -> Result<bool> {
    let failed = |error| Error::io("read directory", path, error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_file = entry.file_type().map_err(failed)?.is_file();
        let bare = match name.to_str() {
            Some(LINK | LOWER) => is_file,
            Some(WORK | MERGED | EMPTY) => has_no_files(&entry.path())?,
            _ => false,
        };
        if !bare {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether there are only directories below.
fn has_no_files(path: &Path) -> Result<bool> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        entries => entries.map_err(|error| Error::io("read directory", path, error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read directory", path, error))?;
        if !has_no_files(&entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}
