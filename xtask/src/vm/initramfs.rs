//! Writing an initramfs: the archive from which the kernel makes its first file system.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cpio::newc::{Builder, ModeFileType};

use super::userland::Userland;
use crate::Result;

/// One archive. The kernel takes several, one after the other in one file.
pub(super) struct Initramfs {
    out: BufWriter<File>,
    /// What has been written, parents of files too.
    there: BTreeSet<PathBuf>,
    inode: u32,
}

impl Initramfs {
    /// Starts an archive at the end of `file`.
    pub(super) fn new(file: File) -> Self {
        Self { out: BufWriter::new(file), there: BTreeSet::new(), inode: 0 }
    }

    /// Leaves out what an earlier archive has.
    pub(super) fn leave_out(&mut self, path: PathBuf) {
        self.there.insert(path);
    }

    /// A directory that everybody may enter, with its parents.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        for directory in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if directory.as_os_str().is_empty() || self.there.contains(directory) {
                continue;
            }
            self.write(directory, ModeFileType::Directory, 0o755, &[])?;
        }
        Ok(())
    }

    pub(super) fn link(&mut self, path: &Path, target: &str) -> Result<()> {
        self.parent(path)?;
        self.write(path, ModeFileType::Symlink, 0o777, target.as_bytes())
    }

    pub(super) fn bytes(&mut self, path: &Path, permissions: u32, contents: &[u8]) -> Result<()> {
        if self.there.contains(path) {
            return Ok(());
        }
        self.parent(path)?;
        self.write(path, ModeFileType::Regular, permissions, contents)
    }

    /// A copy of the file `source`, or of what it is a link to.
    pub(super) fn file(&mut self, path: &Path, permissions: u32, source: &Path) -> Result<()> {
        let contents = std::fs::read(source).map_err(|error| format!("{}: {error}", source.display()))?;
        self.bytes(path, permissions, &contents)
    }

    /// A program with the libraries it needs.
    pub(super) fn program(&mut self, path: &Path, source: &Path, userland: &Userland) -> Result<()> {
        self.file(path, 0o755, source)?;
        for (library, place) in userland.libraries_of(source)? {
            self.file(&place, 0o755, &library)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        cpio::newc::trailer(&mut self.out)?;
        Ok(self.out.flush()?)
    }

    fn parent(&mut self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn write(&mut self, path: &Path, kind: ModeFileType, permissions: u32, contents: &[u8]) -> Result<()> {
        let name = path.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))?;
        self.inode += 1;
        let entry = Builder::new(name).ino(self.inode).mode(permissions).set_mode_file_type(kind);
        let mut entry = entry.write(&mut self.out, u32::try_from(contents.len())?);
        io::copy(&mut &*contents, &mut entry)?;
        entry.finish()?;
        self.there.insert(path.to_owned());
        Ok(())
    }
}
