//! Writing layer tars.

mod content;
mod finder;
mod layer;
mod list;
mod options;
mod writer;

use std::io::{self, Read};
use std::{cmp, fmt, mem};

pub use options::ExportOptions;

use self::content::Content;
use self::finder::{Batch, Entry, Finder};
use self::layer::LayerEntries;
use self::list::ChangeList;
use self::writer::EntryWriter;
use crate::change::Change;
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::stack::LayerStack;
use crate::tar::write::{push_end, push_padding};

/// An uncompressed layer tar, made while it is read.
///
/// The format is POSIX (ustar with PAX records where those are needed): names relative, without `./`, directories with a slash at their end; numeric owners; times to the
/// nanosecond; extended attributes as `SCHILY.xattr.` records (file capabilities, IMA hashes, POSIX ACLs, `user.*`, `trusted.*`, but nothing of overlay
/// mounts or of the host's security policy); whiteouts and opaque marks in the AUFS form of the OCI image format. The root directory itself has no entry.
/// Entries are sorted by the bytes of their paths, the opaque mark of a directory right after it, so that equal trees give equal archives. The second and
/// further names of a file are hard links to the first, if that is in the archive. Sockets are left out. Holes in files are written as zeros.
///
/// The tree may be in use: what vanishes before it is its turn is left out, a file that shrinks is filled up with zeros and one that
/// grows is cut, each with a warning, and all that is written is well-formed. Access times do not change where the
/// process may open files so (`O_NOATIME`).
///
/// # Errors
/// [`read`](Read::read) fails with an [`io::Error`] that carries this crate's [`Error`], and goes on failing: `InvalidArgument` for an owner, or
/// a user or group in an ACL, that the maps do not have; `NotSupported` for a file whose name begins with `.wh.`, which an archive would say to be a
/// whiteout; `PathEscape` and `Io` for an overlay layer's redirect that cannot be followed, `Io` (`EIO`) for a file whose contents no layer has;
/// `Io` when no thread can be started; else the kind of the failed system call. Nothing of the archive is written after that; what was read until then lacks its end and is no archive.
///
/// From the first call on a thread is ahead of who reads: it looks at files and opens them, some tens at most, and has the kernel read what is in them. It ends with the export, at the latest when that is dropped.
///
/// Reading fills the buffer it is given, so larger ones (from 64 KiB) save system calls.
pub struct Export {
    entries: Entries,
    writer: EntryWriter,
    /// Headers, padding and the end mark that are still to be read.
    pending: Vec<u8>,
    pending_start: usize,
    content: Option<Content>,
    state: State,
}

/// Where entries come from.
enum Source {
    Layer(Box<LayerEntries>),
    List(ChangeList),
}

impl Source {
    /// Finds some entries; false at the end.
    fn step(&mut self, batch: &mut Batch) -> Result<bool> {
        match self {
            Source::Layer(walk) => walk.step(batch),
            Source::List(list) => list.step(batch),
        }
    }
}

/// Entries on their way.
enum Entries {
    /// Nothing was read yet.
    Unread(Source),
    Found(Finder),
    /// There are none any more.
    Ended,
}

impl Entries {
    fn next(&mut self) -> Result<Option<Entry>> {
        let mut finder = match mem::replace(self, Entries::Ended) {
            Entries::Unread(source) => Finder::start(source)?,
            Entries::Found(finder) => finder,
            Entries::Ended => return Ok(None),
        };
        let next = finder.next()?;
        if next.is_some() {
            *self = Entries::Found(finder);
        }
        Ok(next)
    }
}

#[derive(Debug)]
enum State {
    Entries,
    Ended,
    /// The failure is told at the next call, because bytes before it came first.
    Failing(Error),
    Failed,
}

impl Export {
    /// All that is in `root`, as a layer that has none below it.
    ///
    /// # Errors
    /// The kind of the failed system call.
    #[doc(alias = "Tar")]
    #[doc(alias = "TarWithOptions")]
    pub fn tree(root: &RootDir, options: ExportOptions) -> Result<Self> {
        Ok(Self::new(
            Source::Layer(Box::new(LayerEntries::new(&LayerStack::plain(root.clone()), 1))),
            options,
        ))
    }

    /// The changes of a layer, as [`changes`](crate::changes()) finds them, with metadata and contents from `root`. A deletion becomes a
    /// whiteout; of a directory that is there again, the opaque mark.
    ///
    /// # Errors
    /// `PathEscape` when a change's path leaves the root.
    #[doc(alias = "ExportChanges")]
    pub fn changes(root: &RootDir, changes: Vec<Change>, options: ExportOptions) -> Result<Self> {
        Ok(Self::new(Source::List(ChangeList::new(root, changes)?), options))
    }

    /// A layer that consists of the `own` uppermost directories of `stack`, above the others: applied on what those show, it makes what all show.
    ///
    /// Whiteouts are written as they are found; those of several directories, and the opaque mark of a directory, only where something lies below them (the
    /// kernel marks every new directory). A directory that was renamed is written with all that shows in it, and a file of which a directory has the
    /// metadata only with its contents. Hard links from a renamed directory to files elsewhere in the layers below become files of their own.
    ///
    /// An AUFS branch by itself (`own` and the whole stack are one) is written with the marks that it has; AUFS's own files in the root (`.wh..wh.*`) are left out.
    #[doc(alias = "Diff")]
    pub fn layer(stack: &LayerStack, own: usize, options: ExportOptions) -> Self {
        Self::new(Source::Layer(Box::new(LayerEntries::new(stack, own))), options)
    }

    fn new(source: Source, options: ExportOptions) -> Self {
        Self {
            entries: Entries::Unread(source),
            writer: EntryWriter::new(options),
            pending: Vec::new(),
            pending_start: 0,
            content: None,
            state: State::Entries,
        }
    }

    /// Puts some bytes into `buffer`; 0 at the end.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.pending_start < self.pending.len() {
                return Ok(self.read_pending(buffer));
            }
            if self.content.is_some() {
                return self.read_content(buffer);
            }
            if let State::Ended = self.state {
                return Ok(0);
            }
            self.next_entry()?;
        }
    }

    fn read_pending(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.pending[self.pending_start..];
        let bytes = cmp::min(rest.len(), buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        self.pending_start += bytes;
        bytes
    }

    fn next_entry(&mut self) -> Result<()> {
        self.pending.clear();
        self.pending_start = 0;
        let Some(entry) = self.entries.next()? else {
            push_end(&mut self.pending);
            self.state = State::Ended;
            return Ok(());
        };
        self.writer.entry(entry)?;
        mem::swap(&mut self.pending, &mut self.writer.headers);
        self.content = self.writer.content.take();
        Ok(())
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(content) = &mut self.content else { return Ok(0) };
        let bytes = content.read(buffer)?;
        if content.remaining == 0 {
            self.pending.clear();
            self.pending_start = 0;
            push_padding(&mut self.pending, content.bytes);
            self.content = None;
        }
        Ok(bytes)
    }
}

impl Read for Export {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match mem::replace(&mut self.state, State::Failed) {
            State::Failing(error) => return Err(error.into()),
            State::Failed => return Err(io::Error::other("the export has failed before")),
            state => self.state = state,
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if filled == 0 => {
                    self.state = State::Failed;
                    return Err(error.into());
                }
                Err(error) => {
                    self.state = State::Failing(error);
                    break;
                }
            }
        }
        Ok(filled)
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("state", &self.state).finish_non_exhaustive()
    }
}
