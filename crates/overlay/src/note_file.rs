//! Reading the small files in which a store says what its layers are.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// More than the names of all layers that the kernel stacks.
const MAX_BYTES: u64 = 1 << 20;

/// The contents of the regular file `path`. In a store of somebody else it may be anything: it is read neither through a symbolic link, nor from a device without end, nor waited for.
///
/// # Errors
/// Those of `open(2)` and `read(2)`, `ELOOP` for a symbolic link among them; `InvalidInput` for what is no regular file; `FileTooLarge`.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut contents = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "text").unwrap();
        File::create(path("largest")).unwrap().set_len(MAX_BYTES).unwrap();
        File::create(path("large")).unwrap().set_len(MAX_BYTES + 1).unwrap();
        symlink("file", path("symlink")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(path("dir")).unwrap();
        assert_eq!(read(&path("file")).unwrap(), b"text");
        assert_eq!(read(&path("largest")).unwrap().len() as u64, MAX_BYTES);
        for (name, kind) in [
            ("missing", io::ErrorKind::NotFound),
            ("large", io::ErrorKind::FileTooLarge),
            ("fifo", io::ErrorKind::InvalidInput),
            ("dir", io::ErrorKind::InvalidInput),
        ] {
            assert_eq!(read(&path(name)).unwrap_err().kind(), kind, "{name}");
        }
        for name in ["symlink", "zero"] {
            assert_eq!(read(&path(name)).unwrap_err().raw_os_error(), Some(libc::ELOOP), "{name}");
        }
    }
}
