//! What a name stands for in merged directories.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use graphdriver_sys::FileType;
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::directory::KEPT_OPEN;
use super::marks::exists;
use super::{LayerDir, LayerStack, Marks};
use crate::error::{Error, ErrorKind, Result};
use crate::root::RootDir;
use crate::walk::{Listing, as_path, open_dir_at, open_file_at, push_name};
use crate::whiteout;

/// Redirects in several layers may make a path longer with each; no attribute is longer than this.
const MAX_REDIRECT_BYTES: usize = 65536;

/// What shows at a path.
#[derive(Debug)]
pub(crate) enum Shown {
    /// Nothing: no layer has it, or one hides it.
    Nothing,
    /// Something other than a directory; its contents, when it is a regular file and they were asked for.
    File(FileStat, Option<OwnedFd>),
    /// These directories merged, the uppermost first and never none; the uppermost says what the directory looks like.
    Dir(Vec<LayerDir>),
}

/// A search for one name through the directories that are merged above it, downwards.
///
/// As the kernel does it: the name under which the next layers are asked changes where a redirect is met, and from an
/// absolute one on they are asked for a path from their roots. So redirects cost no more than the length of that path in each layer.
pub(crate) struct Search<'a> {
    stack: &'a LayerStack,
    /// Path at which the result shows, for messages.
    shown: PathBuf,
    /// What the next layer is asked for.
    wanted: Vec<u8>,
    contents: Contents,
    found: Found,
    stopped: bool,
}

/// Whether the contents of files are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Ignored,
    Wanted,
}

#[derive(Debug)]
enum Found {
    Nothing,
    File(FileStat, Option<OwnedFd>),
    /// A file whose contents are further down.
    Metadata(FileStat),
    Dirs(Vec<LayerDir>),
}

/// Where in the path that is wanted a component stands.
#[derive(Clone, Copy)]
struct Component {
    start: usize,
    end: usize,
}

impl<'a> Search<'a> {
    /// Begins to search for `name` in the merged directory `above`.
    pub(crate) fn new(stack: &'a LayerStack, above: &[u8], name: &CStr) -> Self {
        let mut shown = above.to_vec();
        push_name(&mut shown, name);
        Self {
            stack,
            shown: as_path(&shown).to_owned(),
            wanted: name.to_bytes().to_vec(),
            contents: Contents::Ignored,
            found: Found::Nothing,
            stopped: false,
        }
    }

    /// Looks for the contents of files too.
    pub(crate) fn with_contents(mut self) -> Self {
        self.contents = Contents::Wanted;
        self
    }

    /// Begins below what the caller has seen already: the directory `dir`, which has these marks.
    pub(crate) fn below_dir(mut self, dir: LayerDir, marks: Marks) -> Result<Self> {
        let layer = dir.origin.layer;
        let component = Component { start: 0, end: self.wanted.len() };
        self.found = Found::Dirs(vec![dir]);
        self.stopped = marks.opaque;
        if !marks.opaque && !self.is_last(layer) {
            self.redirect(marks, component, layer)?;
        }
        self.follow(layer)?;
        Ok(self)
    }

    /// Begins below what the caller has seen already: a file in the layer numbered `layer` whose contents are further down.
    pub(crate) fn below_metadata(mut self, layer: usize, stat: FileStat, marks: Marks) -> Result<Self> {
        let component = Component { start: 0, end: self.wanted.len() };
        self.found = Found::Metadata(stat);
        self.contents = Contents::Wanted;
        self.redirect(marks, component, layer)?;
        self.follow(layer)?;
        Ok(self)
    }

    /// Goes on through `dirs`, which are merged in the directory above, uppermost first.
    pub(crate) fn through(&mut self, dirs: &[LayerDir]) -> Result<()> {
        for dir in dirs {
            if self.stopped {
                break;
            }
            if dir.listing.as_ref().is_some_and(|listing| !self.may_have(listing)) {
                continue;
            }
            let component = Component { start: 0, end: self.wanted.len() };
            let below = self.look(dir, component)?;
            self.take(below);
            self.follow(dir.origin.layer)?;
        }
        Ok(())
    }

    /// Whether layers further down say nothing any more.
    pub(crate) fn is_complete(&self) -> bool {
        self.stopped
    }

    /// Whether the layers further down know this under the name at which it shows.
    pub(crate) fn is_named(&self, name: &CStr) -> bool {
        self.wanted == name.to_bytes()
    }

    /// What was found.
    ///
    /// # Errors
    /// `Io` for a file whose contents are nowhere.
    pub(crate) fn finish(self) -> Result<Shown> {
        match self.found {
            Found::Nothing => Ok(Shown::Nothing),
            Found::File(stat, contents) => Ok(Shown::File(stat, contents)),
            Found::Dirs(dirs) => Ok(Shown::Dir(dirs)),
            Found::Metadata(_) => Err(Error::syscall("find contents of", &self.shown, Errno::EIO)
                .detail("a layer has its metadata only (metacopy), and no layer below the contents")),
        }
    }

    fn may_have(&self, listing: &Listing) -> bool {
        let by_name = self.stack.form.marks_by_name();
        listing.find(&self.wanted).is_some()
            || by_name && listing.find(&[whiteout::PREFIX, &self.wanted].concat()).is_some()
    }

    /// After an absolute redirect: asks the layers below the one numbered `layer`, each from its root.
    fn follow(&mut self, layer: usize) -> Result<()> {
        if self.stopped || !self.wanted.starts_with(b"/") {
            return Ok(());
        }
        for layer in layer + 1..self.stack.len() {
            if self.stopped {
                break;
            }
            let below = self.descend(self.stack.root(layer)?)?;
            self.take(below);
        }
        if let Found::Metadata(stat) = self.found {
            for root in &self.stack.data_only {
                if let Some(contents) = open_data(root, &self.wanted)? {
                    self.found = Found::File(stat, Some(contents));
                    break;
                }
            }
        }
        self.stopped = true;
        Ok(())
    }

    /// Looks for the path that is wanted below the root of one layer.
    fn descend(&mut self, root: LayerDir) -> Result<Option<Hit>> {
        let mut dir = root;
        // Counted from the end, since a redirect on the way changes what is in front.
        let mut rest = self.wanted.len() - 1;
        loop {
            let start = self.wanted.len() - rest;
            let length = self.wanted[start..].iter().position(|byte| *byte == b'/').unwrap_or(rest);
            let hit = self.look(&dir, Component { start, end: start + length })?;
            match hit {
                Some(Hit::Dir(below)) if length < rest => dir = below,
                hit => return Ok(hit.filter(|_| length == rest)),
            }
            rest -= length + 1;
        }
    }

    /// What one layer has at a component of the path that is wanted.
    fn look(&mut self, dir: &LayerDir, at: Component) -> Result<Option<Hit>> {
        let name = self.wanted[at.start..at.end].to_vec();
        let is_end = at.end == self.wanted.len();
        let Some(stat) = self.entry(dir, &name)? else { return Ok(None) };
        if !FileType::from_mode(stat.st_mode).is_dir() {
            if !is_end || matches!(self.found, Found::Dirs(_)) {
                self.stopped = true;
                return Ok(None);
            }
            return self.file(dir, &name, stat, at);
        }
        if is_end && matches!(self.found, Found::Metadata(_)) {
            self.stopped = true;
            return Ok(None);
        }
        let above = dir.fd(self.stack)?;
        let fd = open_dir_at(&above, &name[..]).map_err(|errno| self.failed("openat", errno))?;
        let marks = self.stack.form.marks(fd.as_fd()).map_err(|errno| self.failed("fgetxattr", errno))?;
        let xattr_whiteouts = marks.xattr_whiteouts;
        if marks.opaque {
            self.stopped = true;
        } else if !self.is_last(dir.origin.layer) {
            self.redirect(marks, at, dir.origin.layer)?;
        }
        Ok(Some(Hit::Dir(LayerDir::new(dir.origin.join(&name), fd, xattr_whiteouts))))
    }

    /// What `name` is in `dir`; a whiteout ends the search.
    fn entry(&mut self, dir: &LayerDir, name: &[u8]) -> Result<Option<FileStat>> {
        let form = self.stack.form;
        let above = dir.fd(self.stack)?;
        let found = exists(&above, name).map_err(|errno| self.failed("fstatat", errno))?;
        let hidden = match &found {
            Some(stat) => form.is_whiteout(above.as_fd(), dir.xattr_whiteouts, name, stat),
            None if form.marks_by_name() => {
                exists(&above, &[whiteout::PREFIX, name].concat()).map(|mark| mark.is_some())
            }
            None => Ok(false),
        };
        if hidden.map_err(|errno| self.failed("lgetxattr", errno))? {
            self.stopped = true;
            return Ok(None);
        }
        Ok(found)
    }

    fn file(&mut self, dir: &LayerDir, name: &[u8], stat: FileStat, at: Component) -> Result<Option<Hit>> {
        let is_regular = FileType::from_mode(stat.st_mode) == FileType::Regular;
        if !is_regular || self.contents == Contents::Ignored {
            self.stopped = true;
            return Ok((!matches!(self.found, Found::Metadata(_))).then_some(Hit::File(stat, None)));
        }
        let fd = open_file_at(dir.fd(self.stack)?, name).map_err(|errno| self.failed("openat", errno))?;
        let marks = self.stack.form.marks(fd.as_fd()).map_err(|errno| self.failed("fgetxattr", errno))?;
        if !marks.metacopy {
            self.stopped = true;
            return Ok(Some(Hit::File(stat, Some(fd))));
        }
        self.redirect(marks, at, dir.origin.layer)?;
        Ok(Some(Hit::Metadata(stat)))
    }

    /// Changes what the layers below the one numbered `layer` are asked for.
    fn redirect(&mut self, marks: Marks, at: Component, layer: usize) -> Result<()> {
        let Some(redirect) = marks.redirect else { return Ok(()) };
        let redirect = redirect.split(|byte| *byte == 0).next().unwrap_or_default();
        self.check(redirect, layer)?;
        let front: &[u8] = if redirect.starts_with(b"/") { b"" } else { &self.wanted[..at.start] };
        let wanted = [front, redirect, &self.wanted[at.end..]].concat();
        if wanted.len() > MAX_REDIRECT_BYTES {
            return Err(self.invalid(redirect, layer, Errno::ENAMETOOLONG, "leads to too long a path"));
        }
        // An opaque directory on the way hides only what lies below it under its own path.
        self.stopped &= !redirect.starts_with(b"/");
        self.wanted = wanted;
        Ok(())
    }

    /// One name, or an absolute path without empty components: what the kernel takes.
    fn check(&self, redirect: &[u8], layer: usize) -> Result<()> {
        let names = redirect.strip_prefix(b"/");
        let mut names = names.unwrap_or(redirect).split(|byte| *byte == b'/');
        let relative_with_slash = !redirect.starts_with(b"/") && redirect.contains(&b'/');
        if relative_with_slash || names.clone().any(<[u8]>::is_empty) {
            let detail = "is neither a name nor an absolute path";
            return Err(self.invalid(redirect, layer, Errno::EINVAL, detail));
        }
        if names.any(|name| matches!(name, b"." | b"..")) {
            return Err(self.invalid(redirect, layer, Errno::EACCES, "has `.` or `..` in it"));
        }
        Ok(())
    }

    fn invalid(&self, redirect: &[u8], layer: usize, errno: Errno, detail: &str) -> Error {
        let kind = if errno == Errno::EACCES { ErrorKind::PathEscape } else { ErrorKind::Io };
        let shown = as_path(&redirect[..redirect.len().min(256)]);
        let root = self.stack.layers[layer].path();
        Error::new(kind, "follow redirect of")
            .path(&self.shown)
            .detail(format!("the redirect {shown:?} in {root:?} {detail}"))
            .source(std::io::Error::from(errno))
    }

    fn take(&mut self, hit: Option<Hit>) {
        match (hit, &mut self.found) {
            (Some(Hit::Dir(mut dir)), Found::Dirs(dirs)) => {
                if dirs.len() >= KEPT_OPEN {
                    dir.close();
                }
                dirs.push(dir);
            }
            (Some(Hit::Dir(dir)), _) => self.found = Found::Dirs(vec![dir]),
            // The uppermost says what the file is like.
            (Some(Hit::File(_, contents)), Found::Metadata(stat)) => {
                self.found = Found::File(*stat, contents);
            }
            (Some(Hit::File(stat, contents)), _) => self.found = Found::File(stat, contents),
            (None, _) | (Some(Hit::Metadata(_)), Found::Metadata(_)) => {}
            (Some(Hit::Metadata(stat)), _) => self.found = Found::Metadata(stat),
        }
    }

    /// The kernel reads no redirects of directories in the lowest layer.
    fn is_last(&self, layer: usize) -> bool {
        layer + 1 >= self.stack.len()
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        Error::syscall(operation, &self.shown, errno)
    }
}

/// What one layer has.
#[derive(Debug)]
enum Hit {
    Dir(LayerDir),
    File(FileStat, Option<OwnedFd>),
    Metadata(FileStat),
}

/// Opens the regular file `path` of a directory that is for data only.
fn open_data(root: &RootDir, path: &[u8]) -> Result<Option<OwnedFd>> {
    match root.open_file(as_path(path)) {
        Ok(file) => {
            let stat = nix::sys::stat::fstat(&file)
                .map_err(|errno| Error::syscall("fstat", as_path(path), errno))?;
            Ok((FileType::from_mode(stat.st_mode) == FileType::Regular).then(|| file.into()))
        }
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
