//! The names of one merged directory, in the order of an archive.

use std::cmp::Ordering;
use std::ffi::{CStr, CString};

use graphdriver_sys::FileType;

use super::LayerDir;
use crate::walk::Listing;

/// A merged directory that is being walked.
///
/// Names come in the order of the bytes of the paths. That is not quite the order of a walk: of `a` (a directory), `a-b` and `a/c`, the second sorts before
/// the third. So a directory that was visited waits until all names are visited that sort before what is in it.
#[derive(Debug)]
pub(super) struct Level {
    /// The directories whose names are visited, uppermost first, each with its listing.
    pub(super) dirs: Vec<LayerDir>,
    pub(super) rest: Rest,
    /// Length of the path of the directory above.
    pub(super) above_bytes: usize,
    /// Of each name the directory that it shows from and its place there; only where there are several directories.
    merged: Vec<NameAt>,
    next: usize,
    /// Each name begins with the one before it.
    waiting: Vec<Waiting>,
}

/// A name that shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameAt {
    /// Which of the merged directories has it, if it is not in one further up.
    pub(super) dir: usize,
    slot: usize,
}

/// What shows besides the names that are visited.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing: the layer's own directory hides what is below, or nothing is.
    Nothing,
    /// Nothing, because the directories below are among those that are visited.
    Visited,
    /// What the same directory shows without the layer: these directories, once that was asked.
    Lowers(Option<Vec<LayerDir>>),
}

/// A directory that was visited and not yet walked.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) name: CString,
    pub(super) dirs: Vec<LayerDir>,
    pub(super) rest: Rest,
}

#[derive(Debug)]
pub(super) enum Next {
    Visit(NameAt),
    Walk(Waiting),
    Leave,
}

impl Level {
    /// Begins with `dirs`, whose listings have been read.
    pub(super) fn new(dirs: Vec<LayerDir>, rest: Rest, above_bytes: usize) -> Self {
        let mut level = Self { dirs, rest, above_bytes, merged: Vec::new(), next: 0, waiting: Vec::new() };
        if level.dirs.len() > 1 {
            level.merge();
        }
        level
    }

    pub(super) fn next(&mut self) -> Next {
        let at = self.at(self.next);
        let name = at.map(|at| self.name(at));
        if let Some(waiting) = self.waiting.last()
            && name.is_none_or(|name| sorts_after_contents(name, &waiting.name))
            && let Some(waiting) = self.waiting.pop()
        {
            return Next::Walk(waiting);
        }
        self.next += 1;
        at.map_or(Next::Leave, Next::Visit)
    }

    /// Walks `directory` when it is its turn.
    pub(super) fn wait(&mut self, directory: Waiting) {
        // Only the one that is likely next keeps its descriptors.
        if let Some(before) = self.waiting.last_mut() {
            before.dirs.iter_mut().for_each(LayerDir::close);
            before.rest.close();
        }
        self.waiting.push(directory);
    }

    pub(super) fn name(&self, at: NameAt) -> &CStr {
        self.listing(at.dir).and_then(|listing| listing.name(at.slot)).unwrap_or_default()
    }

    pub(super) fn file_type(&self, at: NameAt) -> FileType {
        self.listing(at.dir).map_or(FileType::Unknown, |listing| listing.file_type(at.slot))
    }

    /// Whether a directory above the one numbered `below` has `name`.
    pub(super) fn has_above(&self, below: usize, name: &[u8]) -> bool {
        (0..below).any(|dir| self.listing(dir).is_some_and(|listing| listing.find(name).is_some()))
    }

    fn at(&self, index: usize) -> Option<NameAt> {
        if self.dirs.len() > 1 {
            return self.merged.get(index).copied();
        }
        let length = self.listing(0).map_or(0, Listing::len);
        (index < length).then_some(NameAt { dir: 0, slot: index })
    }

    fn listing(&self, dir: usize) -> Option<&Listing> {
        self.dirs.get(dir)?.listing.as_ref()
    }

    /// Finds the names of all directories, each in the uppermost that has it.
    fn merge(&mut self) {
        let mut all: Vec<NameAt> = (0..self.dirs.len())
            .flat_map(|dir| {
                let length = self.listing(dir).map_or(0, Listing::len);
                (0..length).map(move |slot| NameAt { dir, slot })
            })
            .collect();
        all.sort_by(|one, other| match self.name(*one).cmp(self.name(*other)) {
            Ordering::Equal => one.dir.cmp(&other.dir),
            order => order,
        });
        all.dedup_by(|later, first| self.name(*later) == self.name(*first));
        self.merged = all;
    }
}

impl Rest {
    pub(super) fn close(&mut self) {
        if let Self::Lowers(Some(dirs)) = self {
            dirs.iter_mut().for_each(LayerDir::close);
        }
    }
}

/// Whether `name`, which sorts after `directory`, sorts after `directory/` too.
fn sorts_after_contents(name: &CStr, directory: &CStr) -> bool {
    match name.to_bytes().strip_prefix(directory.to_bytes()) {
        Some(rest) => rest.first().is_some_and(|byte| *byte > b'/'),
        None => true,
    }
}
