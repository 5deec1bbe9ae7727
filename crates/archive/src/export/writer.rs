//! From a file of the tree to its entry in the archive.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use graphdriver_sys::FileType;
use nix::sys::stat::{FileStat, major, minor};
use tar::EntryType;

use super::content::Content;
use super::finder;
use super::options::ExportOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::found::{Found, Kind};
use crate::id_map::Owner;
use crate::tar::number::Timestamp;
use crate::tar::write::{Entry, push_header};
use crate::walk::as_path;
use crate::whiteout;
use crate::xattrs::{IdTranslation, Xattr};

/// Makes headers, and remembers what hard links need.
pub(super) struct EntryWriter {
    options: ExportOptions,
    /// Headers made and not yet fetched.
    pub(super) headers: Vec<u8>,
    /// The content that belongs to the last of them.
    pub(super) content: Option<Content>,
    /// Under which name each file of several names is in the archive.
    first_names: HashMap<(u64, u64), Vec<u8>>,
}

impl EntryWriter {
    pub(super) fn new(options: ExportOptions) -> Self {
        Self { options, headers: Vec::new(), content: None, first_names: HashMap::new() }
    }

    pub(super) fn entry(&mut self, entry: finder::Entry) -> Result<()> {
        match entry {
            finder::Entry::File(path, found) => self.file(&path, found),
            finder::Entry::Opaque(path, stat) => self.opaque(&path, &stat),
            finder::Entry::Whiteout(path) => {
                self.whiteout(&path);
                Ok(())
            }
        }
    }

    /// Writes the entry of the file that is to have this path.
    fn file(&mut self, path: &[u8], found: Found) -> Result<()> {
        if base_name(path).starts_with(whiteout::PREFIX) {
            return Err(Error::new(ErrorKind::NotSupported, "export")
                .path(as_path(path))
                .detail("in an archive a name that begins with .wh. is a whiteout"));
        }
        let Found { stat, kind, xattrs, .. } = found;
        let owner = self.owner(path, &stat)?;
        let xattrs = self.translate(path, xattrs)?;
        let mut name = path.to_vec();
        if let Kind::Directory(_) = kind {
            name.push(b'/');
        }
        let mut entry = Entry {
            mode: stat.st_mode & 0o7777,
            uid: owner.uid,
            gid: owner.gid,
            modified: modified(&stat),
            xattrs: &xattrs,
            ..Entry::empty_file(&name)
        };
        let first = self.first_name(&stat, &kind).map(<[u8]>::to_vec);
        if let Some(first) = &first {
            // What the file is was said with its first name.
            entry = Entry { kind: EntryType::Link, link_name: first, xattrs: &[], ..entry };
            push_header(&mut self.headers, &entry);
            return Ok(());
        }
        if let Kind::Socket = kind {
            tracing::info!(path = ?as_path(path), "an archive cannot hold sockets, left out");
            return Ok(());
        }
        describe(&mut entry, &stat, &kind);
        push_header(&mut self.headers, &entry);
        let size = entry.size;
        if stat.st_nlink > 1 && !matches!(kind, Kind::Directory(_)) {
            self.first_names.insert((stat.st_dev, stat.st_ino), name);
        }
        if let Kind::Regular(fd) = kind
            && size > 0
        {
            self.content = Some(Content::new(path.to_vec(), File::from(fd), size));
        }
        Ok(())
    }

    /// Writes that what lies below at `path` is gone. Time, mode and owner of the mark mean nothing and are 0, so that equal layers
    /// give equal archives whatever form their whiteouts have on disk.
    fn whiteout(&mut self, path: &[u8]) {
        let base = base_name(path);
        let name = [&path[..path.len() - base.len()], whiteout::PREFIX, base].concat();
        push_header(&mut self.headers, &Entry::empty_file(&name));
    }

    /// Writes that nothing shows through the directory `path`; `stat` is the directory's.
    fn opaque(&mut self, path: &[u8], stat: &FileStat) -> Result<()> {
        let Owner { uid, gid } = self.owner(path, stat)?;
        let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
        let name = [path, separator, whiteout::OPAQUE].concat();
        let entry = Entry { mode: stat.st_mode & 0o777, uid, gid, ..Entry::empty_file(&name) };
        push_header(&mut self.headers, &entry);
        Ok(())
    }

    fn first_name(&self, stat: &FileStat, kind: &Kind) -> Option<&[u8]> {
        if stat.st_nlink < 2 || matches!(kind, Kind::Directory(_)) {
            return None;
        }
        self.first_names.get(&(stat.st_dev, stat.st_ino)).map(Vec::as_slice)
    }

    fn owner(&self, path: &[u8], stat: &FileStat) -> Result<Owner> {
        let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        self.options.id_maps.to_container(owner).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "export")
                .path(as_path(path))
                .detail(format!("its owner {owner} on the host has no id in the container"))
        })
    }

    fn translate(&self, path: &[u8], xattrs: Vec<Xattr>) -> Result<Vec<Xattr>> {
        let maps = &self.options.id_maps;
        let ids =
            IdTranslation { uid: &|id| maps.uid_to_container(id), gid: &|id| maps.gid_to_container(id) };
        let translated = xattrs.into_iter().map(|xattr| xattr.translate(&ids)).collect::<Option<_>>();
        translated.ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "export")
                .path(as_path(path))
                .detail("a user or group in its ACL has no id in the container")
        })
    }
}

/// The last component of a path.
fn base_name(path: &[u8]) -> &[u8] {
    let base = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &path[base..]
}

/// Says what depends on the kind of file.
fn describe<'a>(entry: &mut Entry<'a>, stat: &FileStat, kind: &'a Kind) {
    match kind {
        Kind::Regular(_) => entry.size = u64::try_from(stat.st_size).unwrap_or(0),
        Kind::Directory(_) => entry.kind = EntryType::Directory,
        Kind::Symlink(target) => {
            entry.kind = EntryType::Symlink;
            entry.link_name = target.as_bytes();
        }
        Kind::Fifo => entry.kind = EntryType::Fifo,
        Kind::Device(file_type) => {
            let is_block = *file_type == FileType::BlockDevice;
            entry.kind = if is_block { EntryType::Block } else { EntryType::Char };
            // Linux numbers have 12 and 20 bits.
            let number = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
            entry.device = (number(major(stat.st_rdev)), number(minor(stat.st_rdev)));
        }
        Kind::Socket => {}
    }
}

/// When the file was modified.
fn modified(stat: &FileStat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}
