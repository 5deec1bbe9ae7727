//! Walking what the uppermost directories of a stack change in those below.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use graphdriver_sys::FileType;
use graphdriver_sys::dents::Buffer;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};

use super::directory::keep_open;
use super::level::{Level, NameAt, Next, Rest, Waiting};
use super::{Below, Entry, LayerDir, LayerForm, LayerStack, Purpose, Search, Shown};
use crate::error::{Error, Result};
use crate::found::{Found, Kind, Place, find};
use crate::walk::{Listing, as_path, lstat_at, push_name};
use crate::whiteout;

/// How many directories on the way to the current one are kept open; of each only the first few of those that are merged.
const KEPT_LEVELS: usize = 24;
const KEPT_DIRS: usize = 4;

/// A walk over a layer: the uppermost directories of a stack. Costs what they hold, and what shows through directories that were renamed.
///
/// Where a directory of the layer completes the one below, only its own names are visited; where it takes another's place, everything that shows in it.
pub(crate) struct LayerWalk {
    stack: Arc<LayerStack>,
    /// How many directories of the stack are the layer.
    own: usize,
    purpose: Purpose,
    levels: Vec<Level>,
    /// Of the current directory, relative to the root.
    path: Vec<u8>,
    /// Of the current entry.
    entry: Vec<u8>,
    buffer: Buffer,
}

impl LayerWalk {
    /// A walk over the `own` uppermost directories of `stack`.
    pub(crate) fn new(stack: &LayerStack, own: usize, purpose: Purpose) -> Self {
        Self {
            stack: Arc::new(stack.clone()),
            own: own.min(stack.len()),
            purpose,
            levels: Vec::new(),
            path: Vec::new(),
            entry: Vec::new(),
            buffer: Buffer::new(),
        }
    }

    /// The next entry, in the order of the paths' bytes; `None` at the end.
    ///
    /// # Errors
    /// The kind of the failed system call; `Io` and `PathEscape` for marks that cannot be followed.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.levels.is_empty()
            && let Some(entry) = self.begin()?
        {
            return Ok(Some(entry));
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            match level.next() {
                Next::Visit(at) => {
                    if let Some(entry) = self.visit(at)? {
                        return Ok(Some(entry));
                    }
                }
                Next::Walk(directory) => self.descend(directory)?,
                Next::Leave if self.levels.len() == 1 => return Ok(None),
                Next::Leave => self.leave()?,
            }
        }
    }

    /// Path of the entry that was returned last, relative to the root.
    pub(crate) fn entry_path(&self) -> &[u8] {
        &self.entry
    }

    /// Reads the roots. Overlay mounts do not look whether one is opaque, but archives may say so.
    fn begin(&mut self) -> Result<Option<Entry>> {
        let mut dirs = self.stack.roots(0)?;
        let lowers = dirs.split_off(self.own);
        let opaque = dirs.iter().position(|dir| dir.opaque).filter(|_| !lowers.is_empty());
        let rest = match opaque {
            None if lowers.is_empty() => self.nothing_below(),
            None => Rest::Lowers(Some(lowers)),
            Some(last) => {
                dirs.truncate(last + 1);
                self.nothing_below()
            }
        };
        self.enter(dirs, rest, 0)?;
        let Some(last) = opaque else { return Ok(None) };
        let dir = self.levels[0].dirs[last].fd(&self.stack)?;
        let stat = fstat(&dir).map_err(|errno| self.failed("fstat", errno))?;
        Ok(Some(Entry::Opaque(stat)))
    }

    /// Whiteouts in the only directory of a layer are told even where they hide nothing.
    fn nothing_below(&self) -> Rest {
        if self.own > 1 { Rest::Visited } else { Rest::Nothing }
    }

    fn enter(&mut self, mut dirs: Vec<LayerDir>, rest: Rest, above_bytes: usize) -> Result<()> {
        for dir in &mut dirs {
            let listing = Listing::read(dir.fd(&self.stack)?.as_fd(), &mut self.buffer)
                .map_err(|errno| self.failed("getdents64", errno))?;
            dir.listing = Some(listing);
        }
        self.levels.push(Level::new(dirs, rest, above_bytes));
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        self.path.truncate(done.above_bytes);
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        keep_open(&self.stack, &mut level.dirs, &done.dirs)
    }

    fn descend(&mut self, directory: Waiting) -> Result<()> {
        let Waiting { name, mut dirs, rest } = directory;
        let above_bytes = self.path.len();
        push_name(&mut self.path, &name);
        match keep_open(&self.stack, &mut dirs, &[]) {
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => {
                tracing::warn!(path = ?as_path(&self.path), "directory vanished before it was read, what was in it is left out");
                self.path.truncate(above_bytes);
                return Ok(());
            }
            opened => opened?,
        }
        self.close_above();
        self.enter(dirs, rest, above_bytes)
    }

    fn close_above(&mut self) {
        let count = self.levels.len();
        if let Some(level) = self.levels.last_mut() {
            level.dirs.iter_mut().skip(KEPT_DIRS).for_each(LayerDir::close);
            if let Rest::Lowers(Some(lowers)) = &mut level.rest {
                lowers.iter_mut().skip(KEPT_DIRS).for_each(LayerDir::close);
            }
        }
        if let Some(far) = count.checked_sub(KEPT_LEVELS) {
            self.levels[far].dirs.iter_mut().for_each(LayerDir::close);
            self.levels[far].rest.close();
        }
    }

    fn visit(&mut self, at: NameAt) -> Result<Option<Entry>> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let name = level.name(at).to_owned();
        self.entry.clear();
        self.entry.extend_from_slice(&self.path);
        push_name(&mut self.entry, &name);
        let form = self.stack.form();
        if form.marks_by_name() {
            if name.to_bytes().starts_with(whiteout::PREFIX) {
                return self.named_mark(at, &name);
            }
            if level.has_above(at.dir, &[whiteout::PREFIX, name.to_bytes()].concat()) {
                return Ok(None);
            }
        }
        let dir = level.dirs[at.dir].fd(&self.stack)?;
        let place = Place { dir: dir.as_fd(), name: &name, path: &self.entry };
        let Some((stat, found)) = self.look(place, level.file_type(at))? else {
            tracing::warn!(path = ?as_path(&self.entry), "file vanished before it was read, left out");
            return Ok(None);
        };
        let LayerDir { xattr_whiteouts, origin, .. } = &level.dirs[at.dir];
        let whiteout = form.is_whiteout(place.dir, *xattr_whiteouts, name.as_c_str(), &stat);
        if whiteout.map_err(|errno| place.failed("lgetxattr", errno))? {
            drop(dir);
            return self.whiteout(&name);
        }
        let (mut stat, mut found) = (stat, found);
        if let Some(found) = &mut found {
            self.stack.heed(origin.layer, found, place)?;
            stat = found.stat;
        }
        drop(dir);
        match found {
            Some(found @ Found { kind: Kind::Directory(_), .. }) => {
                self.directory(at, &name, found).map(Some)
            }
            found => self.file(at, &name, stat, found).map(Some),
        }
    }

    /// Looks at what is at `place` as closely as the purpose asks.
    fn look(&self, place: Place<'_>, hint: FileType) -> Result<Option<(FileStat, Option<Found>)>> {
        let mut hint = hint;
        if self.purpose != Purpose::Contents && !hint.is_dir() {
            let stat = match lstat_at(place.dir, place.name) {
                Err(Errno::ENOENT) => return Ok(None),
                stat => stat.map_err(|errno| place.failed("fstatat", errno))?,
            };
            hint = FileType::from_mode(stat.st_mode);
            if !hint.is_dir() {
                return Ok(Some((stat, None)));
            }
        }
        Ok(find(place, hint, self.stack.form())?.map(|found| (found.stat, Some(found))))
    }

    /// A `.wh.` file: a whiteout, the mark of an opaque directory, or something of the mount program's own.
    fn named_mark(&mut self, at: NameAt, name: &CStr) -> Result<Option<Entry>> {
        let name = name.to_bytes();
        let is_opaque = name == whiteout::OPAQUE;
        let own_file = self.path.is_empty() && name.starts_with(whiteout::META_PREFIX) && !is_opaque;
        if own_file || name == whiteout::FUSE_STRAY {
            return Ok(None);
        }
        if !is_opaque {
            let hidden = [&name[whiteout::PREFIX.len()..], b"\0"].concat();
            let hidden = CStr::from_bytes_until_nul(&hidden).unwrap_or_default();
            // What another directory of the layer has in its place says more.
            if self.levels.last().is_some_and(|level| level.has_above(at.dir, hidden.to_bytes())) {
                return Ok(None);
            }
            self.entry.truncate(self.entry.len() - name.len());
            self.entry.extend_from_slice(hidden.to_bytes());
            return self.whiteout(hidden);
        }
        // Else it is told with the directory, if there is one below.
        let is_all = self.own == self.stack.len() && self.own == 1;
        if !is_all || !matches!(self.stack.form(), LayerForm::Aufs) {
            return Ok(None);
        }
        self.entry.clone_from(&self.path);
        let dir = self.levels[self.levels.len() - 1].dirs[at.dir].fd(&self.stack)?;
        let stat = fstat(&dir).map_err(|errno| self.failed("fstat", errno))?;
        Ok(Some(Entry::Opaque(stat)))
    }

    /// A whiteout counts where something is below that it hides; those of a layer's only directory are not doubted.
    fn whiteout(&mut self, name: &CStr) -> Result<Option<Entry>> {
        let counts = match self.levels.last().map(|level| &level.rest) {
            Some(Rest::Lowers(_)) => self.own == 1 || !matches!(self.below(name)?, Shown::Nothing),
            Some(Rest::Nothing) => true,
            Some(Rest::Visited) | None => false,
        };
        Ok(counts.then_some(Entry::Whiteout))
    }

    fn file(&mut self, at: NameAt, name: &CStr, stat: FileStat, found: Option<Found>) -> Result<Entry> {
        let below = if self.purpose == Purpose::Changes {
            let shown = self.below(name)?;
            Below::of(&self.stack, &shown, None)?
        } else {
            Below::Nothing
        };
        let found = match found {
            Some(found) if found.marks.metacopy => Some(self.with_contents(at, name, found)?),
            found => found,
        };
        Ok(Entry::File { stat, found, below })
    }

    /// Finds the contents of a file of which a layer has the metadata only.
    fn with_contents(&mut self, at: NameAt, name: &CStr, mut found: Found) -> Result<Found> {
        let stack = Arc::clone(&self.stack);
        let dirs = &self.levels[self.levels.len() - 1].dirs;
        let layer = dirs[at.dir].origin.layer;
        let marks = std::mem::take(&mut found.marks);
        let mut search = Search::new(&stack, &self.path, name).below_metadata(layer, found.stat, marks)?;
        search.through(&dirs[at.dir + 1..])?;
        self.search_rest(&mut search)?;
        if let Shown::File(_, Some(contents)) = search.finish()? {
            found.kind = Kind::Regular(contents);
        }
        Ok(found)
    }

    fn directory(&mut self, at: NameAt, name: &CStr, mut found: Found) -> Result<Entry> {
        let stack = Arc::clone(&self.stack);
        let level = &self.levels[self.levels.len() - 1];
        let origin = level.dirs[at.dir].origin.join(name.to_bytes());
        let marks = std::mem::take(&mut found.marks);
        let fd = if let Kind::Directory(fd) = &mut found.kind { fd.take() } else { None };
        let fd = fd.ok_or_else(|| Error::syscall("openat", as_path(&self.entry), Errno::ENOTDIR))?;
        let redirected = marks.redirect.is_some();
        let dir = LayerDir::new(origin, fd, marks.xattr_whiteouts);
        let mut search = Search::new(&stack, &self.path, name).below_dir(dir, marks)?;
        search.through(&level.dirs[at.dir + 1..])?;
        let completes = !search.is_complete() && search.is_named(name);
        let (dirs, rest, replaces, below) = match level.rest {
            Rest::Nothing | Rest::Visited => {
                let only = matches!(level.rest, Rest::Nothing) && !redirected;
                let rest = if only { Rest::Nothing } else { Rest::Visited };
                (dirs_of(search)?, rest, false, Below::Nothing)
            }
            Rest::Lowers(_) if completes => {
                let dirs = dirs_of(search)?;
                let (rest, below) = self.known_below(name, &found)?;
                (dirs, rest, false, below)
            }
            Rest::Lowers(_) => {
                self.search_rest(&mut search)?;
                self.replacing(name, &found, dirs_of(search)?)?
            }
        };
        let waiting = Waiting { name: name.to_owned(), dirs, rest };
        if let Some(level) = self.levels.last_mut() {
            level.wait(waiting);
        }
        Ok(Entry::Dir { found, replaces, below })
    }

    /// What shows below a directory that completes it; asked only for the purpose.
    fn known_below(&mut self, name: &CStr, found: &Found) -> Result<(Rest, Below)> {
        if self.purpose != Purpose::Changes {
            return Ok((Rest::Lowers(None), Below::Nothing));
        }
        let shown = self.below(name)?;
        let below = Below::of(&self.stack, &shown, Some(found))?;
        let rest = match shown {
            Shown::Dir(lowers) => Rest::Lowers(Some(lowers)),
            Shown::Nothing | Shown::File(..) => self.nothing_below(),
        };
        Ok((rest, below))
    }

    /// A directory that is opaque or was renamed: its directories, `dirs`, need not be those that are below without the layer.
    fn replacing(
        &mut self,
        name: &CStr,
        found: &Found,
        mut dirs: Vec<LayerDir>,
    ) -> Result<(Vec<LayerDir>, Rest, bool, Below)> {
        let shown = self.below(name)?;
        let below = Below::of(&self.stack, &shown, Some(found))?;
        let first = dirs.iter().position(|dir| dir.origin.layer >= self.own);
        let Shown::Dir(lowers) = shown else {
            let rest = if first.is_none() { self.nothing_below() } else { Rest::Visited };
            return Ok((dirs, rest, false, below));
        };
        let Some(first) = first else { return Ok((dirs, self.nothing_below(), true, below)) };
        let origins = |dirs: &[LayerDir]| dirs.iter().map(|dir| dir.origin.clone()).collect::<Vec<_>>();
        if origins(&dirs[first..]) == origins(&lowers) {
            // It was renamed, and renamed back.
            dirs.truncate(first);
            return Ok((dirs, Rest::Lowers(Some(lowers)), false, below));
        }
        Ok((dirs, Rest::Visited, true, below))
    }

    /// Goes on with `search` in what the current directory shows without the layer.
    fn search_rest(&mut self, search: &mut Search<'_>) -> Result<()> {
        let index = self.levels.len() - 1;
        if !search.is_complete() && matches!(self.levels[index].rest, Rest::Lowers(_)) {
            search.through(self.rest(index)?)?;
        }
        Ok(())
    }

    /// What is at `name` in the current directory without the layer.
    fn below(&mut self, name: &CStr) -> Result<Shown> {
        let index = self.levels.len() - 1;
        if !matches!(self.levels[index].rest, Rest::Lowers(_)) {
            return Ok(Shown::Nothing);
        }
        let stack = Arc::clone(&self.stack);
        let mut search = Search::new(&stack, &self.path, name);
        search.through(self.rest(index)?)?;
        search.finish()
    }

    /// The directories that the one at level `index` shows without the layer. Asked first where it is needed, and then for those above it too.
    fn rest(&mut self, index: usize) -> Result<&[LayerDir]> {
        let stack = Arc::clone(&self.stack);
        let is_known = |level: &Level| !matches!(level.rest, Rest::Lowers(None));
        let known = self.levels[..=index].iter().rposition(is_known).unwrap_or(0);
        for next in known + 1..=index {
            let end = self.levels.get(next + 1).map_or(self.path.len(), |level| level.above_bytes);
            let start = self.levels[next].above_bytes;
            let name = self.path[start..end].strip_prefix(b"/").unwrap_or(&self.path[start..end]);
            let name = std::ffi::CString::new(name).unwrap_or_default();
            let mut search = Search::new(&stack, &self.path[..start], &name);
            if let Rest::Lowers(Some(above)) = &self.levels[next - 1].rest {
                search.through(above)?;
            }
            self.levels[next].rest = Rest::Lowers(Some(match search.finish()? {
                Shown::Dir(dirs) => dirs,
                Shown::Nothing | Shown::File(..) => Vec::new(),
            }));
        }
        let Rest::Lowers(Some(dirs)) = &mut self.levels[index].rest else { return Ok(&[]) };
        keep_open(&stack, dirs, &[])?;
        Ok(dirs)
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        Error::syscall(operation, as_path(&self.path), errno)
    }
}

fn dirs_of(search: Search<'_>) -> Result<Vec<LayerDir>> {
    match search.finish()? {
        Shown::Dir(dirs) => Ok(dirs),
        Shown::Nothing | Shown::File(..) => Ok(Vec::new()),
    }
}
