//! Where the layers are: directories and driver, from the command line, the environment and who we are.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use graphdriver::{DriverHome, Error, ErrorKind, Graph, OpenOptions, Registry};
use nix::unistd::{Uid, geteuid};

use crate::args::Global;
use crate::migrate::remove_empty_home;

/// A store that has not been opened yet.
#[derive(Debug)]
pub(crate) struct Store {
    registry: Registry,
    driver: Option<String>,
    options: OpenOptions,
}

impl Store {
    /// What `global` asks for, and defaults for the rest. To be called before a user namespace is entered, in which everybody is root.
    ///
    /// # Errors
    /// `InvalidArgument` when no default can be found for a directory; `PermissionDenied` when the directory for what does not outlive a boot belongs to somebody else.
    pub(crate) fn new(global: &Global) -> Result<Self, Error> {
        let uid = geteuid();
        let root = match &global.root {
            Some(root) => root.clone(),
            None => default_root(uid, &|name| env::var_os(name).map(PathBuf::from))?,
        };
        let run_root = match &global.run_root {
            Some(run_root) => run_root.clone(),
            None => default_run_root(uid)?,
        };
        let mut options =
            OpenOptions::new(root, run_root).with_options(global.storage_options.iter().cloned());
        options.image_store.clone_from(&global.image_store);
        Ok(Self { registry: graphdriver::registry(), driver: global.driver.clone(), options })
    }

    /// Opens it with the driver that was asked for, or the one that fits.
    ///
    /// # Errors
    /// As [`Registry::select`].
    pub(crate) fn open(&self) -> Result<Graph, Error> {
        self.registry.select(self.driver.as_deref(), &self.options)
    }

    /// The driver that was asked for.
    #[cfg(feature = "plugin")]
    pub(crate) fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// Opens the home of the driver `name`, which has to be there.
    ///
    /// # Errors
    /// `InvalidArgument` when the root has none, naming those that it has; as [`Registry::open`].
    pub(crate) fn open_existing(&self, name: &str) -> Result<Graph, Error> {
        let homes = self.registry.homes(&self.options.root)?;
        let graph = self.registry.open(name, &self.options)?;
        // Some driver finds its layers in another one's directory.
        if homes.contains(&name) || !graph.layers()?.is_empty() {
            return Ok(graph);
        }
        let home = DriverHome::new(name, &self.options)?;
        drop(graph);
        if let Err(error) = remove_empty_home(home.home()) {
            tracing::warn!(%error, "the home that was made stays");
        }
        let found = if homes.is_empty() { "no driver".to_owned() } else { homes.join(", ") };
        Err(Error::new(ErrorKind::InvalidArgument, "open driver")
            .path(&self.options.root)
            .detail(format!("it has layers of {found}, and none of {name}")))
    }

    /// Whether the root has a directory of the driver `name`.
    ///
    /// # Errors
    /// As [`Registry::homes`].
    pub(crate) fn has_home(&self, name: &str) -> Result<bool, Error> {
        Ok(self.registry.homes(&self.options.root)?.contains(&name))
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// The directories of an opened driver.
    ///
    /// # Errors
    /// As [`DriverHome::new`].
    pub(crate) fn home(&self, graph: &Graph) -> Result<DriverHome, Error> {
        DriverHome::new(graph.name(), &self.options)
    }
}

fn default_root(uid: Uid, variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Error> {
    if uid.is_root() {
        return Ok("/var/lib/graphdriver".into());
    }
    // The XDG base directory specification says to ignore what is not absolute.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, "find store")
            .detail("neither XDG_DATA_HOME nor HOME is set; give --root")
    })?;
    Ok(data.join("graphdriver"))
}

fn default_run_root(uid: Uid) -> Result<PathBuf, Error> {
    if uid.is_root() {
        return Ok("/run/graphdriver".into());
    }
    if let Some(runtime) =
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && path.is_dir())
    {
        return Ok(runtime.join("graphdriver"));
    }
    let path = PathBuf::from(format!("/tmp/graphdriver-{uid}"));
    make_private(&path, uid)?;
    Ok(path)
}

/// Makes a directory in a place where everybody may, or makes sure that nobody else made it.
fn make_private(path: &Path, uid: Uid) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("mkdir", path, error)),
    }
    // Its owner cannot be changed by others once it is ours: /tmp is sticky.
    let metadata = path.symlink_metadata().map_err(|error| Error::io("stat", path, error))?;
    if metadata.is_dir() && metadata.uid() == uid.as_raw() && metadata.mode() & 0o7777 == 0o700 {
        return Ok(());
    }
    let detail =
        format!("is not a directory of uid {uid} with mode 0700; give --run-root or set XDG_RUNTIME_DIR");
    Err(Error::new(ErrorKind::PermissionDenied, "use run root").path(path).detail(detail))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn roots() {
        let root = |uid: u32, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                variables.iter().find(|(has, _)| *has == name).map(|(_, value)| PathBuf::from(value))
            };
            default_root(Uid::from_raw(uid), &variable).ok()
        };
        let home = ("HOME", "/home/u");
        assert_eq!(root(0, &[home]).unwrap(), Path::new("/var/lib/graphdriver"));
        assert_eq!(root(1000, &[home]).unwrap(), Path::new("/home/u/.local/share/graphdriver"));
        assert_eq!(root(1000, &[home, ("XDG_DATA_HOME", "/data")]).unwrap(), Path::new("/data/graphdriver"));
        assert_eq!(
            root(1000, &[home, ("XDG_DATA_HOME", "data")]).unwrap(),
            Path::new("/home/u/.local/share/graphdriver")
        );
        assert_eq!(root(1000, &[]), None);
    }

    #[test]
    fn a_directory_in_tmp_has_to_be_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let uid = geteuid();
        make_private(&path, uid).unwrap();
        make_private(&path, uid).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(make_private(&path, uid).unwrap_err().kind(), ErrorKind::PermissionDenied);
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let other = Uid::from_raw(uid.as_raw() + 1);
        assert_eq!(make_private(&path, other).unwrap_err().kind(), ErrorKind::PermissionDenied);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(make_private(&link, uid).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
