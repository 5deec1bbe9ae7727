//! Additional layer stores: directories in which other programs show layers.

use std::path::{Path, PathBuf};

use graphdriver_core::{DriverOption, Error, Result};

/// One value of the option `additionallayerstore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerStore {
    pub(crate) path: PathBuf,
    /// The layers of each image are in a directory of its own, named after the image's reference.
    pub(crate) with_reference: bool,
}

impl LayerStore {
    /// A comma-separated list of `PATH` and `PATH:ref`.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that is not absolute or not a directory, and for another flag; otherwise the kind of the failed `stat`.
    pub(crate) fn parse_list(option: &DriverOption) -> Result<Vec<Self>> {
        option.list().map(|part| Self::parse(option, part)).collect()
    }

    fn parse(option: &DriverOption, text: &str) -> Result<Self> {
        let (path, flags) = text.split_once(':').unwrap_or((text, ""));
        let path = Path::new(path);
        let mut with_reference = false;
        for flag in flags.split(':').filter(|flag| !flag.is_empty()) {
            match flag {
                "ref" if with_reference => return Err(option.invalid_value("has ref twice").path(path)),
                "ref" => with_reference = true,
                _ => return Err(option.invalid_value(&format!("has the unknown flag {flag:?}")).path(path)),
            }
        }
        if !path.is_absolute() {
            return Err(option.invalid_value("is not absolute").path(path));
        }
        let metadata = path.metadata().map_err(|error| Error::io("stat", path, error))?;
        if !metadata.is_dir() {
            return Err(option.invalid_value("is not a directory").path(path));
        }
        Ok(Self { path: path.to_owned(), with_reference })
    }
}
