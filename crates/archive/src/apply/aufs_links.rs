//! Contents of hard-linked files as AUFS keeps them: regular files in `.wh..wh.plnk`, which entries elsewhere are links to.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::options::WhiteoutMode;
use super::unpack::Unpacker;
use super::writers::Job;
use crate::error::{Error, Result};
use crate::root::RootDir;
use crate::tar::read::{Entry, Reader};
use crate::whiteout;

/// As many as are kept, each an open file. Only layers from AUFS itself have any.
const MAX_KEPT: usize = 128;

/// Files without a name, by the name that AUFS had for them.
#[derive(Debug, Default)]
pub(super) struct AufsLinks {
    kept: HashMap<Vec<u8>, Kept>,
}

#[derive(Debug)]
struct Kept {
    content: File,
    entry: Rc<Entry>,
}

impl AufsLinks {
    /// Keeps the contents of `entry`, which `reader` just gave, aside.
    ///
    /// # Errors
    /// `InvalidArchive` when there are too many; the kind of the failed system call.
    pub(super) fn keep(
        &mut self,
        root: &RootDir,
        name: Vec<u8>,
        reader: &mut Reader<'_>,
        entry: Entry,
        path: &Path,
    ) -> Result<()> {
        if self.kept.len() >= MAX_KEPT {
            return Err(Error::invalid_archive(format!(
                "more than {MAX_KEPT} files that AUFS keeps for links"
            ))
            .path(path));
        }
        let content = unnamed_file(root).map_err(|errno| Error::syscall("openat", path, errno))?;
        let write = |data: &[u8], offset| {
            content.write_all_at(data, offset).map_err(|error| Error::io("pwrite64", error).path(path))
        };
        let plain = [crate::tar::sparse::Segment { offset: 0, bytes: reader.data_left() }];
        for segment in entry.sparse.as_ref().map_or(&plain[..], |map| map.segments()) {
            let (mut offset, end) = (segment.offset, segment.offset + segment.bytes);
            while let Some(data) = reader.data(end - offset)? {
                write(&data, offset)?;
                offset += data.len() as u64;
            }
        }
        content.set_len(entry.size).map_err(|error| Error::io("ftruncate", error).path(path))?;
        self.kept.insert(name, Kept { content, entry: Rc::new(entry) });
        Ok(())
    }
}

impl Unpacker<'_> {
    /// The name under which AUFS kept the contents of `target`, if it is a file of AUFS's.
    pub(super) fn aufs_link_name(&self, target: &Path) -> Option<Vec<u8>> {
        let inside = target.parent()?.as_os_str().as_bytes() == whiteout::LINK_DIR;
        let name = target.file_name()?.as_bytes().to_vec();
        (inside && self.options.whiteouts != WhiteoutMode::Aufs).then_some(name)
    }

    /// Makes `path` a copy of the contents kept under `name`, with the metadata that came with them.
    ///
    /// # Errors
    /// `InvalidArchive` when there are none.
    pub(super) fn copy_aufs_link(&mut self, name: &[u8], path: &Path) -> Result<()> {
        let Some(kept) = self.aufs_links.kept.get(name) else {
            return Err(
                Error::invalid_archive("invalid aufs hardlink: its content is not in the archive").path(path)
            );
        };
        let failed = |error| Error::io("copy", error).path(path);
        let content = kept.content.try_clone().map_err(failed)?;
        let kept = Rc::clone(&kept.entry);
        let mut entry =
            Entry { name: Vec::new(), link: Vec::new(), xattrs: kept.xattrs.clone(), sparse: None, ..*kept };
        let file = self.create(&mut entry, path.to_owned())?;
        let mut buffer = vec![0; 64 << 10];
        let mut offset = 0;
        loop {
            match content.read_at(&mut buffer, offset).map_err(failed)? {
                0 => break,
                read => {
                    file.file().write_all_at(&buffer[..read], offset).map_err(failed)?;
                    offset += read as u64;
                }
            }
        }
        self.writers.submit(Job { file, parts: Vec::new() })
    }
}

/// A file in the root's file system that has no name, so that nothing of it is left whatever happens.
fn unnamed_file(root: &RootDir) -> nix::Result<File> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match openat(root.as_fd(), ".", flags | OFlag::O_TMPFILE, mode) {
        // Not every file system has O_TMPFILE; overlay since Linux 6.1.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => {
            let name = format!(".wh..wh.graphdriver.{}", std::process::id());
            let file = openat(root.as_fd(), name.as_str(), flags | OFlag::O_CREAT | OFlag::O_EXCL, mode)?;
            unlinkat(root.as_fd(), name.as_str(), UnlinkatFlags::NoRemoveDir)?;
            Ok(File::from(file))
        }
        opened => opened.map(File::from),
    }
}
