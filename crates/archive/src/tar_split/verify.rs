//! Whether a layer is still what its archive made.
//!
//! Whatever is done to a file or in a directory changes its `st_ctime`, which only the kernel sets. So when all of a layer was last changed before its record was sealed,
//! nothing has been changed since. What is not older is suspect, and is compared with the archive; so is what is in a suspect directory, which may have been moved
//! there as a whole, and everything when the record or the layer's directory is not the one that was sealed, as in a copy of the store.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crc_fast::Digest as Crc;
use graphdriver_sys::FileType;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat, major, minor};
use nix::unistd::{getegid, geteuid};

use super::headers::{Described, Headers};
use super::note::Note;
use super::record::CRC;
use super::seal::changed;
use super::suspects::{Known, Suspects, parent};
use crate::apply::WhiteoutMode;
use crate::apply::lowers;
use crate::apply::metadata::{Metadata, may_chown};
use crate::apply::role::Role;
use crate::apply::whiteout_files::whiteout_of;
use crate::error::{Error, Result};
use crate::found::{Found, Kind, Place, find};
use crate::id_map::{IdMaps, Owner};
use crate::root::{RootDir, clean_name};
use crate::stack::LayerForm;
use crate::tar::read::{Entry, EntryKind};
use crate::walk::{Visited, as_path, visit_tree};
use crate::whiteout;
use crate::xattrs::{IdTranslation, Xattr, is_portable};

/// How an overlay layer looks on disk: as it was when its archive was unpacked.
#[derive(Clone, Copy, Debug)]
pub struct LayerLook<'a> {
    /// The directories of the layers below, uppermost first.
    pub lowers: &'a [RootDir],
    /// The form of its whiteouts. Where they were executed, nothing is recognized that is not older than the record.
    pub whiteouts: WhiteoutMode,
    /// The maps that owners are stored with.
    pub id_maps: &'a IdMaps,
    /// Devices were left out.
    pub in_user_namespace: bool,
}

pub(super) fn matches(
    record: &File,
    note: Option<&Note>,
    root: &RootDir,
    look: &LayerLook<'_>,
) -> Result<bool> {
    let known = Known::new(record, note, root)?;
    let suspects = Suspects::find(root, known)?;
    if suspects.files.is_empty() {
        return Ok(true);
    }
    let form = match look.whiteouts {
        WhiteoutMode::Execute => return Ok(false),
        WhiteoutMode::Overlay(xattrs) => LayerForm::Overlay(xattrs),
        // Marks are files like others.
        WhiteoutMode::Aufs => LayerForm::Plain,
        WhiteoutMode::Fuse => LayerForm::Fuse,
    };
    tracing::debug!(layer = ?root.path(), files = suspects.files.len(), "comparing files with the record of their archive");
    let record = record.try_clone().map_err(|error| Error::io("dup", error))?;
    let comparison = Comparison {
        root,
        look,
        form,
        known,
        suspects,
        expected: HashSet::new(),
        missing: HashSet::new(),
        opaque: HashSet::new(),
    };
    comparison.run(record)
}

pub(super) fn is_untouched(
    record: &File,
    note: Option<&Note>,
    root: &RootDir,
    also: &RootDir,
) -> Result<bool> {
    let known = Known::new(record, note, root)?;
    for root in [root, also] {
        let stat = fstat(root).map_err(|errno| Error::syscall("fstat", root.path(), errno))?;
        let mut untouched = known.has(changed(&stat));
        visit_tree(root, |Visited { stat, .. }| {
            untouched &= known.has(changed(stat));
            Ok(untouched)
        })?;
        if !untouched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The suspects held against the archive's entries.
struct Comparison<'a> {
    root: &'a RootDir,
    look: &'a LayerLook<'a>,
    form: LayerForm,
    known: Known,
    suspects: Suspects,
    /// What the archive put into suspect directories.
    expected: HashSet<Vec<u8>>,
    /// Of whiteouts that are not there: an entry must have taken their place.
    missing: HashSet<Vec<u8>>,
    /// Directories that the archive made opaque.
    opaque: HashSet<Vec<u8>>,
}

impl Comparison<'_> {
    fn run(mut self, record: File) -> Result<bool> {
        let mut headers = Headers::new(record)?;
        while let Some(described) = headers.next()? {
            if !self.entry(&described)? {
                tracing::debug!(layer = ?self.root.path(), name = ?as_path(&described.entry.name), "no longer there");
                return Ok(false);
            }
        }
        if self.expected.len() != self.suspects.listed.len() || !self.missing.is_subset(&self.expected) {
            tracing::debug!(layer = ?self.root.path(), "something was added");
            return Ok(false);
        }
        for (path, suspect) in &self.suspects.files {
            let is_same = match suspect.is_same {
                Some(is_same) => is_same,
                // The entry of the root is missing in most archives, and nothing that it would say is in any diff.
                None if path.is_empty() => true,
                None => suspect.is_dir && self.is_as_implied(as_path(path))?,
            };
            if !is_same || suspect.is_dir && !self.is_as_opaque(path)? {
                tracing::debug!(layer = ?self.root.path(), path = ?as_path(path), "not as in the archive");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Holds the suspects against an entry; `false` when something of it is not there.
    fn entry(&mut self, described: &Described) -> Result<bool> {
        let entry = &described.entry;
        let path = clean_name(&entry.name)?;
        match Role::of(&path, entry.kind, self.look.whiteouts)? {
            Role::File => {
                let is_device = matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
                if is_device && self.look.in_user_namespace {
                    return Ok(true);
                }
                if !self.expect(&path) {
                    return Ok(false);
                }
                self.compare(described, &path)?;
            }
            Role::Root => self.compare(described, &path)?,
            Role::Whiteout(hidden) => return self.whiteout(&hidden),
            Role::Opaque(directory) => {
                let path = directory.as_os_str().as_bytes();
                if self.suspects.files.contains_key(path) {
                    self.opaque.insert(path.to_vec());
                    // Its mark may be an attribute in every form.
                    self.mark_file(&directory.join(OsStr::from_bytes(whiteout::OPAQUE)))?;
                }
            }
            Role::AufsLink(_) | Role::Skip => {}
        }
        Ok(true)
    }

    /// `path` and the directories that it is in came with the archive; `false` when one is gone. So no more is kept in memory than the layer has files,
    /// whatever a record says.
    fn expect(&mut self, path: &Path) -> bool {
        for path in path.ancestors() {
            let path = path.as_os_str().as_bytes();
            if path.is_empty() || !self.suspects.files.contains_key(parent(path)) {
                continue;
            }
            if !self.suspects.listed.contains(path) {
                return false;
            }
            if !self.expected.contains(path) {
                self.expected.insert(path.to_vec());
            }
        }
        true
    }

    fn whiteout(&mut self, hidden: &Path) -> Result<bool> {
        let path = hidden.as_os_str().as_bytes();
        if !self.suspects.files.contains_key(path) && !self.suspects.files.contains_key(parent(path)) {
            return Ok(true);
        }
        if self.mark_file(&whiteout_of(hidden)?)? {
            return Ok(true);
        }
        let on_disk = self.root.lstat(hidden)?;
        let is_device =
            |stat: FileStat| FileType::from_mode(stat.st_mode) == FileType::CharDevice && stat.st_rdev == 0;
        if on_disk.is_some_and(is_device) {
            if !self.expect(hidden) {
                return Ok(false);
            }
            if let Some(suspect) = self.suspects.files.get_mut(path) {
                suspect.is_same = Some(true);
            }
        } else if self.look.lowers.is_empty() || lowers::show(self.look.lowers, hidden, self.look.whiteouts)?
        {
            if on_disk.is_none() {
                return Ok(false);
            }
            self.missing.insert(path.to_vec());
        }
        Ok(true)
    }

    /// Whether the mark of an entry is the file `path`, which then came with the archive; for fuse-overlayfs it may be.
    fn mark_file(&mut self, path: &Path) -> Result<bool> {
        if !self.form.marks_by_name() {
            return Ok(false);
        }
        let is_file = |stat: FileStat| FileType::from_mode(stat.st_mode).is_file();
        if !self.root.lstat(path)?.is_some_and(is_file) || !self.expect(path) {
            return Ok(false);
        }
        if let Some(suspect) = self.suspects.files.get_mut(path.as_os_str().as_bytes()) {
            suspect.is_same = Some(true);
        }
        Ok(true)
    }

    /// Compares the file at `path` with its entry, if it is suspect.
    fn compare(&mut self, described: &Described, path: &Path) -> Result<()> {
        let bytes = path.as_os_str().as_bytes();
        if !self.suspects.files.contains_key(bytes) {
            return Ok(());
        }
        let is_same = match described.entry.kind {
            EntryKind::Link => self.is_linked(&described.entry, path)?,
            _ => self.is_same(described, path)?,
        };
        if let Some(suspect) = self.suspects.files.get_mut(bytes) {
            // Of two entries with one name, the later says what there is.
            suspect.is_same = Some(is_same);
        }
        Ok(())
    }

    fn is_linked(&self, entry: &Entry, path: &Path) -> Result<bool> {
        let inode = |stat: FileStat| (stat.st_dev, stat.st_ino);
        let (link, target) = (self.root.lstat(path)?, self.root.lstat(&clean_name(&entry.link)?)?);
        Ok(link.is_some() && link.map(inode) == target.map(inode))
    }

    fn is_same(&self, described: &Described, path: &Path) -> Result<bool> {
        let Some(found) = self.find(path)? else { return Ok(false) };
        let entry = &described.entry;
        let Found { stat, kind, xattrs, .. } = found;
        let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        let is_symlink = entry.kind == EntryKind::Symlink;
        let mtime = (entry.mtime.seconds, i64::from(entry.mtime.nanoseconds));
        if self.look.id_maps.to_container(owner) != Some(entry.owner)
            || !is_symlink && stat.st_mode & 0o7777 != entry.mode
            || (stat.st_mtime, stat.st_mtime_nsec) != mtime
            || self.translated(xattrs) != Some(portable(&entry.xattrs))
        {
            return Ok(false);
        }
        match (entry.kind, kind) {
            (EntryKind::Regular, Kind::Regular(fd)) => has_contents(fd, &stat, described, path),
            (EntryKind::Symlink, Kind::Symlink(target)) => Ok(target.as_bytes() == entry.link),
            (EntryKind::CharDevice, Kind::Device(FileType::CharDevice))
            | (EntryKind::BlockDevice, Kind::Device(FileType::BlockDevice)) => {
                let (entry_major, entry_minor) = entry.device;
                Ok((major(stat.st_rdev), minor(stat.st_rdev)) == (entry_major.into(), entry_minor.into()))
            }
            (EntryKind::Directory, Kind::Directory(_)) | (EntryKind::Fifo, Kind::Fifo) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Whether a directory without an entry looks as unpacking made it.
    fn is_as_implied(&self, path: &Path) -> Result<bool> {
        let Some(Found { stat, xattrs, .. }) = self.find(path)? else { return Ok(false) };
        let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        let mode = Some(stat.st_mode & 0o7777);
        match lowers::directory(self.look.lowers, path, self.look.whiteouts)? {
            Some(Metadata { owner: below, mode: mode_below, xattrs: xattrs_below, times, .. }) => {
                let times_below = times.map(|times| (times.mtime.tv_sec(), times.mtime.tv_nsec()));
                Ok((Some(owner), mode, xattrs) == (below, mode_below, portable(&xattrs_below))
                    && times_below.is_none_or(|mtime| mtime == (stat.st_mtime, stat.st_mtime_nsec)))
            }
            // When it was made is known only to have been before the seal.
            None => Ok(self.implied_owner() == Some(owner)
                && mode == Some(0o755)
                && xattrs.is_empty()
                && (matches!(self.known, Known::Nothing)
                    || self.known.has((stat.st_mtime, stat.st_mtime_nsec)))),
        }
    }

    /// Who gets a directory that neither an entry nor a layer below describes.
    fn implied_owner(&self) -> Option<Owner> {
        if may_chown() {
            return self.look.id_maps.root().ok();
        }
        Some(Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() })
    }

    fn is_as_opaque(&self, path: &[u8]) -> Result<bool> {
        let fd = self.root.open_dir(as_path(path))?;
        let marks = self.form.marks(fd.as_fd());
        let marks = marks.map_err(|errno| Error::syscall("fgetxattr", as_path(path), errno))?;
        let is_plain = marks.redirect.is_none() && !marks.xattr_whiteouts;
        Ok(is_plain && marks.opaque == self.opaque.contains(path))
    }

    fn find(&self, path: &Path) -> Result<Option<Found>> {
        let bytes = path.as_os_str().as_bytes();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let dir: OwnedFd = self.root.open_at(as_path(parent(bytes)), flags, Mode::empty())?;
        let name = path.file_name().map_or(&b"."[..], OsStrExt::as_bytes);
        let Ok(name) = CString::new(name) else { return Ok(None) };
        find(Place { dir: dir.as_fd(), name: &name, path: bytes }, FileType::Unknown, LayerForm::Plain)
    }

    fn translated(&self, xattrs: Vec<Xattr>) -> Option<Vec<Xattr>> {
        let maps = self.look.id_maps;
        let ids =
            IdTranslation { uid: &|id| maps.uid_to_container(id), gid: &|id| maps.gid_to_container(id) };
        xattrs.into_iter().map(|xattr| xattr.translate(&ids)).collect()
    }
}

/// Those that a layer has, sorted; of two with one name the later.
fn portable(xattrs: &[Xattr]) -> Vec<Xattr> {
    let mut portable: Vec<Xattr> = Vec::new();
    for xattr in xattrs.iter().filter(|xattr| is_portable(&xattr.name)) {
        portable.retain(|known| known.name != xattr.name);
        portable.push(xattr.clone());
    }
    portable.sort_unstable();
    portable
}

fn has_contents(fd: OwnedFd, stat: &FileStat, described: &Described, path: &Path) -> Result<bool> {
    if u64::try_from(stat.st_size) != Ok(described.entry.size) {
        return Ok(false);
    }
    let Some(expected) = described.crc else { return Ok(stat.st_size == 0) };
    let mut file = File::from(fd);
    let mut crc = Crc::new(CRC);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(crc.finalize() == expected),
            Ok(bytes) => crc.update(&buffer[..bytes]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", error).path(path)),
        }
    }
}
