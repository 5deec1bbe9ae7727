//! The file that tells Docker where a plugin listens that has no socket in the usual place.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, Result};

/// `NAME.spec`, for as long as the plugin is there.
#[must_use = "dropped, the file is removed"]
#[derive(Debug)]
pub struct SpecFile {
    path: PathBuf,
    text: String,
}

impl SpecFile {
    /// Tells in `dir`, which is made if need be, that the plugin `name` listens at `address`. A file that is there is replaced.
    ///
    /// # Errors
    /// `PermissionDenied`, `Io`.
    pub fn write(dir: &Path, name: &str, address: SocketAddr) -> Result<Self> {
        let file = Self { path: dir.join(format!("{name}.spec")), text: format!("tcp://{address}") };
        let failed = |call: &'static str| move |error: io::Error| Error::io(call, dir, error);
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("mkdir"))?;
        fs::write(&file.path, &file.text)
            .and_then(|()| fs::set_permissions(&file.path, Permissions::from_mode(0o644)))
            .map_err(|error| Error::io("write", &file.path, error))?;
        Ok(file)
    }
}

impl Drop for SpecFile {
    fn drop(&mut self) {
        // Another plugin of this name may have written its own.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = ?self.path, %error, "the plugin's address stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_there_as_long_as_the_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("docker/plugins");
        let file = SpecFile::write(&plugins, "p", "127.0.0.1:7".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(plugins.join("p.spec")).unwrap(), "tcp://127.0.0.1:7");
        let other = SpecFile::write(&plugins, "p", "[::1]:8".parse().unwrap()).unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(plugins.join("p.spec")).unwrap(), "tcp://[::1]:8");
        drop(other);
        assert!(!plugins.join("p.spec").exists());
    }
}
