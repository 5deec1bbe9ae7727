//! Sharing the blocks of equal files.

mod candidates;
mod content;
mod share;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use parking_lot::Mutex;

use self::candidates::{Candidate, Group, Volumes};
use self::content::Fingerprint;
use self::share::Outcome;
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::walk::{Crew, as_path, open_file_at, run_crew};

/// By what files are found that may be equal; the kernel compares bytes in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "DedupOptions")]
#[doc(alias = "DedupHashMethod")]
pub enum DedupHash {
    /// Size, and the CRC-64 (ECMA-182, reflected) of the contents.
    #[default]
    #[doc(alias = "DedupHashCRC")]
    Crc,
    /// Size only: nothing is read but by the kernel, which compares each file with every different one of its size. Only good for trees with few files of one size.
    #[doc(alias = "DedupHashFileSize")]
    Size,
    /// Size, and the SHA-256 of the contents.
    #[doc(alias = "DedupHashSHA256")]
    Sha256,
}

/// Makes equal files in and between the trees `roots` share their blocks (`ioctl_fideduperange(2)`); returns how many bytes are stored once less than before.
///
/// Contents, times and everything else that can be asked of a file stay; files that somebody writes to meanwhile are whole. Files that share their blocks already are
/// recognised (`FIEMAP`) and not counted. Empty files and files with holes are passed over, as are files whose contents lie among the metadata, which have no blocks to share.
/// Where the file system cannot share (ext4, tmpfs) nothing happens. Several threads share the work. Needs memory for the paths of all files
/// that have another one of their size.
///
/// # Errors
/// The kind of the failed system call, with the path inside its root; what was shared until then stays so. `PermissionDenied` for a file that may
/// not be read.
#[doc(alias = "DedupDirs")]
pub fn dedup(roots: &[RootDir], hash: DedupHash) -> Result<u64> {
    let volumes = Volumes::of(roots)?;
    let groups = candidates::find(roots, &volumes)?;
    if groups.is_empty() {
        return Ok(0);
    }
    let work = Work { roots, volumes: &volumes, groups: &groups, hash, incapable: Mutex::default() };
    let bytes = run_crew(0..groups.len(), |crew, ranges| work.ranges(crew, ranges))?;
    Ok(bytes.into_iter().sum())
}

/// What all threads use.
struct Work<'a> {
    roots: &'a [RootDir],
    volumes: &'a Volumes,
    groups: &'a [Group],
    hash: DedupHash,
    /// Devices whose file systems cannot share.
    incapable: Mutex<HashSet<u64>>,
}

impl Work<'_> {
    /// Shares within each of the groups, giving half of what is left to a thread that has nothing to do.
    fn ranges(
        &self,
        crew: &Crew<Range<usize>>,
        ranges: &mut dyn Iterator<Item = Range<usize>>,
    ) -> Result<u64> {
        let mut bytes = 0;
        for mut range in ranges {
            while let Some(index) = range.next() {
                if crew.stopped() {
                    return Ok(bytes);
                }
                if crew.wants_work() && !range.is_empty() {
                    let middle = range.start + range.len() / 2;
                    crew.give(middle..range.end);
                    range.end = middle;
                }
                if let Some(group) = self.groups.get(index) {
                    bytes += self.group(group)?;
                }
            }
        }
        Ok(bytes)
    }

    /// Shares among files of one size.
    fn group(&self, group: &Group) -> Result<u64> {
        let mut bytes = 0;
        // Of each content that was met, one file.
        let mut originals: HashMap<Fingerprint, Vec<&Candidate>> = HashMap::new();
        for candidate in &group.files {
            if self.incapable.lock().contains(&group.device) {
                break;
            }
            let Some(file) = self.open(candidate, group)? else { continue };
            let fingerprint =
                content::fingerprint(&file, self.hash).map_err(|error| failed(candidate, error))?;
            let same = originals.entry(fingerprint).or_default();
            let (shared, is_new) = self.share_with_any(same, &file, candidate, group)?;
            bytes += shared;
            if is_new {
                same.push(candidate);
            }
        }
        Ok(bytes)
    }

    /// Lets `file` share with the first of `originals` that is equal. Returns the bytes gained, and whether the file is different from all.
    fn share_with_any(
        &self,
        originals: &[&Candidate],
        file: &File,
        candidate: &Candidate,
        group: &Group,
    ) -> Result<(u64, bool)> {
        let mut bytes = 0;
        for original in originals {
            let Some(from) = self.open(original, group)? else { continue };
            let outcome = share::share(&from, file, group.bytes, &mut bytes)
                .map_err(|errno| Error::syscall("ioctl_fideduperange", as_path(&candidate.path), errno))?;
            match outcome {
                Outcome::Shares | Outcome::NotThese => return Ok((bytes, false)),
                Outcome::Differs => {}
                Outcome::NotHere => {
                    tracing::debug!(device = group.device, "the file system shares no blocks");
                    self.incapable.lock().insert(group.device);
                    return Ok((bytes, false));
                }
            }
        }
        Ok((bytes, true))
    }

    /// The candidate's file; `None` when it has gone or changed since it was found.
    fn open(&self, candidate: &Candidate, group: &Group) -> Result<Option<File>> {
        let Some(root) = self.roots.get(candidate.root) else { return Ok(None) };
        let path = as_path(&candidate.path);
        let opened = root.locate(path).and_then(|at| {
            open_file_at(&at.dir, at.name.as_os_str()).map_err(|errno| Error::syscall("openat", path, errno))
        });
        let file = match opened {
            Err(error) if is_gone(&error) => return Ok(None),
            opened => File::from(opened?),
        };
        let metadata = file.metadata().map_err(|error| failed(candidate, error))?;
        let unchanged = metadata.is_file()
            && self.volumes.device(metadata.dev()) == group.device
            && metadata.len() == group.bytes;
        Ok(unchanged.then_some(file))
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO | Errno::ESTALE)
    )
}

fn failed(candidate: &Candidate, error: std::io::Error) -> Error {
    Error::io("read", error).path(as_path(&candidate.path))
}
