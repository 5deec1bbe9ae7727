//! Where an additional layer store shows a layer, and what lies there.
//!
//! ```text
//! <store>/<digest>/                        diff/, info, blob
//! <store>/<base64 of reference>/<digest>/  the same, in a store that has its layers by images
//! ```
//!
//! The path of a store is its administrator's, with whatever links are in it. Below it nothing that is looked up may be a symbolic link, so that only what lies in the store can become
//! a layer. What the store's program shows there later is its own business, as the contents are.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use graphdriver_archive::RootDir;
use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::FileType;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use crate::layer_store::LayerStore;
use crate::layout::DIFF;

/// The store's description of the layer.
pub(crate) const INFO: &str = "info";
/// The layer as the registry has it.
pub(crate) const BLOB: &str = "blob";

/// What a layer's directory in a store has to have.
const PARTS: [(&str, FileType); 3] =
    [(DIFF, FileType::Directory), (INFO, FileType::Regular), (BLOB, FileType::Regular)];

/// Whether `text` is a digest as the OCI image specification has it, `<algorithm>:<encoded>`; every digest is a plain file name.
pub(crate) fn is_digest(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else { return false };
    let is_algorithm = algorithm.split(['+', '.', '_', '-']).all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    let is_encoded = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-');
    is_algorithm && !encoded.is_empty() && encoded.bytes().all(is_encoded)
}

/// The directory in which `store` shows the layer; `None` when it does not, or not all of it.
pub(crate) fn find(store: &LayerStore, digest: &str, reference: &str) -> Option<PathBuf> {
    let image = store.with_reference.then(|| BASE64_STANDARD.encode(reference));
    let names: Vec<&str> = image.as_deref().into_iter().chain([digest]).collect();
    let mut path = store.path.clone();
    path.extend(&names);
    match look(store, &names) {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::debug!(?path, error = %error.report(), "not there in an additional layer store");
            None
        }
    }
}

/// Opens a file that the layer's directory `shown` has.
///
/// # Errors
/// `Io`, also for what is no regular file.
pub(crate) fn open(shown: &Path, part: &'static str) -> Result<File> {
    let path = shown.join(part);
    let failed = |call| move |errno| Error::syscall(call, shown.join(part), errno);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = nix::fcntl::open(shown, flags, Mode::empty()).map_err(failed("open"))?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(&dir, part, flags, Mode::empty()).map_err(failed("openat"))?;
    require(FileType::from_mode(fstat(&file).map_err(failed("fstat"))?.st_mode), FileType::Regular, &path)?;
    Ok(file.into())
}

/// Goes down from the store, one name at a time.
fn look(store: &LayerStore, names: &[&str]) -> Result<()> {
    let root = RootDir::open(&store.path)?;
    let mut dir: OwnedFd =
        root.as_fd().try_clone_to_owned().map_err(|error| Error::io("dup", root.path(), error))?;
    let mut path = store.path.clone();
    for name in names {
        path.push(name);
        // What a name is made of has a slash in it for characters only that no reference has.
        if name.is_empty() || name.contains('/') {
            return Err(Error::new(ErrorKind::InvalidArgument, "open").path(path).detail("it is no name"));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        dir = openat(&dir, *name, flags, Mode::empty())
            .map_err(|errno| Error::syscall("openat", &path, errno))?;
    }
    for (part, expected) in PARTS {
        let path = path.join(part);
        let stat = fstatat(&dir, part, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| Error::syscall("fstatat", &path, errno))?;
        require(FileType::from_mode(stat.st_mode), expected, &path)?;
    }
    Ok(())
}

fn require(found: FileType, expected: FileType, path: &Path) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let detail = format!("it is {found:?}, not {expected:?}");
    Err(Error::new(ErrorKind::Io, "open").path(path).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_specification() {
        for (text, expected) in [
            ("sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b", true),
            ("sha512:401b09eab3c013d4ca54922bb802bec8fd5318192b0a75f201d8b372742", true),
            ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", true),
            ("sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", true),
            ("", false),
            (":", false),
            ("..", false),
            ("sha256", false),
            ("sha256:", false),
            (":00", false),
            ("sha256+:00", false),
            ("SHA256:00", false),
            ("sha256:..", false),
            ("sha256:00/../../../etc", false),
            ("../x:00", false),
            ("sha256:00\0", false),
            ("sha256:00\n", false),
            ("sha256:0 0", false),
            ("sha256:00:00", false),
        ] {
            assert_eq!(is_digest(text), expected, "{text:?}");
        }
    }
}
