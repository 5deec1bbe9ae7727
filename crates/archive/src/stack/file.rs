//! Opening a single file.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{LayerStack, Search, Shown};
use crate::error::{Error, ErrorKind, Result};
use crate::root::clean_name;

impl LayerStack {
    /// Opens the regular file `path` for reading, as a mount of the stack shows it: from the uppermost layer that has it, unless it is hidden;
    /// through renamed directories; and, where a layer has a file's metadata only, its contents.
    ///
    /// Symbolic links are not followed, on the way neither. Metadata of the open file is that of the layer which has the contents.
    ///
    /// # Errors
    /// `Io` with the error number of an `open(2)` on the mount: `ENOENT`, `ENOTDIR`, `ELOOP` for a symbolic link, `EISDIR`, `EIO` when no layer has the
    /// contents; `InvalidArgument` for a device, a fifo or a socket; `PathEscape` for a path or a redirect that leaves the root.
    #[doc(alias = "DiffGetter")]
    pub fn open_file(&self, path: &Path) -> Result<File> {
        let clean = clean_name(path.as_os_str().as_bytes())?;
        let failed = |errno| Error::syscall("open", path, errno);
        match self.show(&clean, true)? {
            Shown::File(_, Some(contents)) => Ok(contents.into()),
            Shown::File(stat, None) if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFLNK => {
                Err(failed(Errno::ELOOP))
            }
            Shown::File(..) => Err(Error::new(ErrorKind::InvalidArgument, "open")
                .path(path)
                .detail("it is not a regular file")),
            Shown::Dir(_) => Err(failed(Errno::EISDIR)),
            Shown::Nothing => Err(failed(Errno::ENOENT)),
        }
    }

    /// What shows at the clean relative path `path`; with the contents of files when `contents` says so.
    ///
    /// # Errors
    /// The kind of the failed system call; `Io` and `PathEscape` for redirects that cannot be followed.
    pub(crate) fn show(&self, path: &Path, contents: bool) -> Result<Shown> {
        let mut shown = Shown::Dir(self.roots(0)?);
        let mut above = PathBuf::new();
        for component in path {
            let Shown::Dir(dirs) = &shown else { return Ok(Shown::Nothing) };
            let name = CString::new(component.as_bytes())
                .map_err(|_| Error::invalid_archive("a name has a NUL byte").path(path))?;
            let mut search = Search::new(self, above.as_os_str().as_bytes(), &name);
            above.push(component);
            if contents && above == path {
                search = search.with_contents();
            }
            search.through(dirs)?;
            shown = search.finish()?;
        }
        Ok(shown)
    }
}
