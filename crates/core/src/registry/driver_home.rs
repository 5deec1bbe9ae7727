//! Where a driver keeps its layers, and with which options it is opened.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::options::{DriverOption, options_for};

/// Where layers are kept and how, for all drivers of one program.
#[derive(Clone, Debug)]
#[doc(alias = "Options")]
pub struct OpenOptions {
    /// The directory that holds the homes of all drivers.
    pub root: PathBuf,
    /// The directory for what does not outlive the machine's uptime, best on a tmpfs; all programs that use one `root` must name the same.
    pub run_root: PathBuf,
    /// A second such directory, for the homes that layers of kind [`ReadOnly`](crate::LayerKind::ReadOnly) are made in; `None` for one that has all.
    ///
    /// Layers of both are seen as those of one home. All programs that use the pair must name both.
    #[doc(alias = "ImageStore")]
    pub image_store: Option<PathBuf>,
    /// Options of all drivers; each takes [those meant for it](DriverOption::is_for).
    #[doc(alias = "DriverOptions")]
    pub options: Vec<DriverOption>,
    /// In which order drivers are tried where there is no home yet; empty for [`DEFAULT_PRIORITY`](crate::DEFAULT_PRIORITY). Drivers that are not
    /// [automatic](crate::DriverEntry::automatic) have their turn where they are named here.
    #[doc(alias = "DriverPriority")]
    pub priority: Vec<String>,
}

impl OpenOptions {
    /// Layers below `root`, without driver options and with the default priority.
    pub fn new(root: impl Into<PathBuf>, run_root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            run_root: run_root.into(),
            image_store: None,
            options: Vec::new(),
            priority: Vec::new(),
        }
    }

    /// Makes read-only layers below `image_store` instead of the root.
    #[must_use]
    pub fn with_image_store(mut self, image_store: impl Into<PathBuf>) -> Self {
        self.image_store = Some(image_store.into());
        self
    }

    /// Adds driver options.
    #[must_use]
    pub fn with_options(mut self, options: impl IntoIterator<Item = DriverOption>) -> Self {
        self.options.extend(options);
        self
    }
}

/// One driver's directories and options: what it is opened with.
#[derive(Clone, Debug)]
pub struct DriverHome {
    name: String,
    root: PathBuf,
    home: PathBuf,
    run_home: PathBuf,
    image_store: Option<PathBuf>,
    options: Vec<DriverOption>,
}

impl DriverHome {
    /// The home of the driver `name`, at absolute paths.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty root, run root or image store; `Io` when a relative one cannot be made absolute.
    pub fn new(name: &str, options: &OpenOptions) -> Result<Self> {
        let root = absolute("root", &options.root)?;
        let run_root = absolute("run root", &options.run_root)?;
        let image_store =
            options.image_store.as_ref().map(|path| absolute("image store", path)).transpose()?;
        Ok(Self {
            name: name.to_owned(),
            home: root.join(name),
            run_home: run_root.join(name),
            root,
            image_store,
            options: options_for(name, &options.options).cloned().collect(),
        })
    }

    /// The same in another directory of the root, for drivers that find what is theirs under more than one name.
    #[must_use]
    pub fn in_directory(mut self, name: &str) -> Self {
        self.home = self.root.join(name);
        self
    }

    /// The name that the driver is opened by, which may be [another than its own](crate::DriverEntry::names).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that holds the homes of all drivers; absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The driver's home, `<root>/<name>` unless it is [elsewhere](Self::in_directory); absolute.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The driver's directory for what does not outlive the machine's uptime, `<run_root>/<name>`; absolute.
    pub fn run_home(&self) -> &Path {
        &self.run_home
    }

    /// The directory that holds the homes for read-only layers, where those are kept apart; absolute. The driver's own is below it, under the driver's own name
    /// whatever it is opened by.
    pub fn image_store(&self) -> Option<&Path> {
        self.image_store.as_deref()
    }

    /// The options that are meant for this driver, in the order given.
    pub fn options(&self) -> &[DriverOption] {
        &self.options
    }

    /// The home if it exists, else the directory nearest above it that does: what tells the file system that the home will lie on.
    pub fn nearest_dir(&self) -> &Path {
        self.home.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
    }
}

fn absolute(what: &str, path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, "open driver")
            .detail(format!("the {what} is an empty path")));
    }
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let current = env::current_dir().map_err(|error| Error::io("getcwd", path, error))?;
    Ok(current.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_named_after_the_driver() {
        let options = ["vfs.a=1", "overlay.b=2", "c=3"].map(|text| text.parse().unwrap());
        let options = OpenOptions::new("/r", "/run/r").with_options(options);
        let home = DriverHome::new("overlay2", &options).unwrap();
        assert_eq!((home.name(), home.root()), ("overlay2", Path::new("/r")));
        assert_eq!((home.home(), home.run_home()), (Path::new("/r/overlay2"), Path::new("/run/r/overlay2")));
        assert_eq!(home.options().iter().map(DriverOption::key).collect::<Vec<_>>(), ["b", "c"]);
        let home = home.in_directory("other");
        assert_eq!((home.home(), home.run_home()), (Path::new("/r/other"), Path::new("/run/r/overlay2")));
    }

    #[test]
    fn the_image_store_is_absolute_too() {
        let options = OpenOptions::new("/r", "/run/r");
        assert_eq!(DriverHome::new("vfs", &options).unwrap().image_store(), None);
        let home = DriverHome::new("vfs", &options.clone().with_image_store("/i")).unwrap();
        assert_eq!(home.image_store(), Some(Path::new("/i")));
        let home = DriverHome::new("vfs", &options.clone().with_image_store("i")).unwrap();
        assert_eq!(home.image_store(), Some(&*env::current_dir().unwrap().join("i")));
        let error = DriverHome::new("vfs", &options.with_image_store("")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn relative_roots_become_absolute_and_empty_ones_are_refused() {
        let home = DriverHome::new("vfs", &OpenOptions::new("r", "s")).unwrap();
        assert_eq!(home.home(), env::current_dir().unwrap().join("r/vfs"));
        for options in [OpenOptions::new("", "s"), OpenOptions::new("r", "")] {
            assert_eq!(DriverHome::new("vfs", &options).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn the_nearest_directory_exists() {
        let dir = tempfile::tempdir().unwrap();
        let home = DriverHome::new("vfs", &OpenOptions::new(dir.path().join("a/b"), "/run")).unwrap();
        assert_eq!(home.nearest_dir(), dir.path());
        std::fs::create_dir_all(dir.path().join("a/b/vfs")).unwrap();
        assert_eq!(home.nearest_dir(), dir.path().join("a/b/vfs"));
    }
}
