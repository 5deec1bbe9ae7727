//! Filling a directory from a layer tar.
//!
//! | file | answers |
//! |---|---|
//! | [`role`] | what is an entry, by its name? |
//! | [`unpack`] | what does it make? |
//! | [`whiteouts`], [`whiteout_files`] | what does it take away? |
//! | [`links`], [`aufs_links`] | which file does it share? |
//! | [`implied`], [`lowers`] | what about directories that the archive does not have? |
//! | [`metadata`] | owner, mode, extended attributes, times |
//! | [`directories`] | which directories are held open? |
//! | [`late`] | what must wait for the end? |
//! | [`unpacked`] | which paths came from this archive? |
//! | [`writers`], [`file`](mod@file) | who writes contents? |

mod aufs_links;
mod directories;
mod file;
mod implied;
mod late;
mod links;
pub(crate) mod lowers;
pub(crate) mod metadata;
mod options;
pub(crate) mod role;
mod unpack;
mod unpacked;
pub(crate) mod whiteout_files;
mod whiteouts;
mod writers;

use std::fs::File;
use std::io::Read;
use std::thread::available_parallelism;

use nix::sys::resource::{Resource, getrlimit};

pub use options::{Applied, ApplyOptions, ArchiveDigest, WhiteoutMode};

use self::unpack::Unpacker;
use self::writers::Writers;
use crate::error::Result;
use crate::root::RootDir;
use crate::tar::buffer::Pool;
use crate::tar::read::Reader;
use crate::tar_split::record::Recorder;
use crate::tar_split::tape::{self, Tape};
use crate::tar_split::{NotExact, Recorded, maps_digest};

/// Buffers of 256 KiB between the archive and the files. More would only be cold memory.
const BUFFERS: usize = 32;
/// More cores than this do not help one layer: names are made by one thread.
const MAX_DEFAULT_THREADS: usize = 4;

/// Unpacks the uncompressed tar `archive` into `root`.
///
/// The result is that of taking entry after entry in the order of the archive: of two entries with the same name the later wins, a whiteout takes away what came
/// before it. Contents are written by several threads meanwhile. An entry keeps what is at its path only if both are directories, and
/// then gives it its metadata. The entry of the root itself (`./`) gives the root its metadata in every mode.
///
/// - **Formats**: v7, ustar, PAX and GNU tar with all forms of sparse files. Global PAX headers are passed over. An empty stream is an empty layer.
/// - **Paths** are resolved inside `root`: symbolic links that entries go through are followed as a process with that root would. Targets of
///   symbolic links are stored as they are.
/// - **Missing directories** on the way to an entry are made, as [`ApplyOptions::lowers`] says, else with mode 0755 and the container's root as owner
///   (the caller, if it may not change owners).
/// - **Hard links** may come before their target. Their own metadata is not applied. The target must be in the directory being filled.
/// - **Whiteouts** do what [`ApplyOptions::whiteouts`] says. In the modes that understand them, names that begin with `.wh..wh.` at the
///   top of the archive are AUFS's own: the contents of hard links among them become copies, all others are left out.
/// - **Metadata**: owner, mode, times with nanoseconds before 1970 and after 2038, extended attributes (`SCHILY.xattr.*`). Overlay's own attributes and SELinux
///   labels are left out. Attributes that the file system does not have are ignored with one warning. Directories get their times last.
/// - **Memory** and open files are bounded whatever the archive says, but for about 100 bytes for each path.
///
/// Reads `archive` to its end, also what follows the end-of-archive mark, so that a digest taken on the way covers all. On failure, `root` holds
/// whatever was unpacked until then; callers fill a directory aside and rename it.
///
/// Needs `CAP_CHOWN`, `CAP_FOWNER`, `CAP_MKNOD` and so on for what the archive has, or the options that do without.
///
/// # Errors
/// - `InvalidArchive`: truncated or corrupt, an impossible name, a link to what is not there, an owner without an id on the host.
/// - `PathEscape`: a name or the target of a hard link leaves the root.
/// - `NotSupported`: overlay's form of whiteouts cannot be made here (before Linux 5.8 in a user namespace).
/// - `NoSpace`, `PermissionDenied`, `Io`: a system call failed, which the error names along with the entry; or `archive` did.
#[doc(alias = "UnpackLayer")]
#[doc(alias = "Unpack")]
#[doc(alias = "ApplyLayer")]
#[doc(alias = "Untar")]
#[doc(alias = "ApplyUncompressedLayer")]
pub fn apply(root: &RootDir, archive: &mut dyn Read, options: &ApplyOptions) -> Result<Applied> {
    let tape = options.digest.then(|| Tape::new(Recorder::digesting()));
    unpack(root, archive, options, tape).map(|(applied, _)| applied)
}

/// Like [`apply`], and writes a record of the archive to `record`, an empty file: with it and the directory, [`Record`](crate::tar_split::Record) gives
/// the archive back byte for byte.
///
/// Not every archive can be: [`Recorded`] says so, and why; the file holds nothing of use then. `root` must begin empty, which is not checked. The record is complete when
/// this returns, not flushed, and says which archive and which id maps it was. What is in `root` counts as unchanged when the record's file is touched (renamed) afterwards.
///
/// # Errors
/// As [`apply`]; also failures to write the record.
#[doc(alias = "NewInputTarStream")]
pub fn apply_recorded(
    root: &RootDir,
    archive: &mut dyn Read,
    options: &ApplyOptions,
    record: File,
) -> Result<(Applied, Recorded)> {
    let tape = Tape::new(Recorder::recording(record, maps_digest(&options.id_maps)));
    unpack(root, archive, options, Some(tape))
}

fn unpack(
    root: &RootDir,
    archive: &mut dyn Read,
    options: &ApplyOptions,
    mut tape: Option<Tape>,
) -> Result<(Applied, Recorded)> {
    let limits = Limits::of_process();
    let writers = Writers::new(threads(options), limits.open_files);
    let starved = || writers.make_progress();
    let buffers = BUFFERS + if tape.is_some() { tape::MAX_BUFFERS } else { 0 };
    let mut reader = Reader::new(archive, Pool::new(buffers), &starved).taped(tape.as_mut());
    let mut unpacker = Unpacker::new(root, options, &writers, limits.open_directories);
    while let Some(entry) = reader.next_entry()? {
        unpacker.entry(&mut reader, entry)?;
    }
    reader.drain()?;
    drop(reader);
    let (applied, lost) = unpacker.finish()?;
    let Some(tape) = tape else { return Ok((applied, Recorded::NotAsked)) };
    let (archive, recorded) = tape.finish(lost.map(NotExact::Replaced))?;
    Ok((Applied { archive: Some(archive), ..applied }, recorded))
}

fn threads(options: &ApplyOptions) -> usize {
    match options.threads {
        0 => available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_THREADS),
        threads => threads,
    }
}

/// How many descriptors one archive may use at a time.
struct Limits {
    open_files: usize,
    open_directories: usize,
}

impl Limits {
    /// Leaves most of what the process may have (`RLIMIT_NOFILE`, 1024 as a rule) to others.
    fn of_process() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
        let share = |part: u64, most: usize| usize::try_from(limit / part).unwrap_or(most).clamp(4, most);
        Self { open_files: share(4, 128), open_directories: share(8, 64) }
    }
}
