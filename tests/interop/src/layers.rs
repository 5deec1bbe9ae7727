//! The archives that are unpacked, and in which order.

use std::env;
use std::path::{Path, PathBuf};

use crate::needs::Need;

/// The directory that `tests/data/make-layers.sh` filled.
pub(crate) struct Layers {
    dir: Option<PathBuf>,
}

/// Layers over each other, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Chain {
    /// A Debian root file system.
    Base,
    /// Many small files.
    Small,
    /// Inodes with ten names.
    Hardlinks,
    /// Attributes, devices, odd names, times and owners.
    Meta,
    /// What removes, replaces and hides parts of `Small`.
    Whiteouts,
    /// All of them as one image.
    Image,
}

impl Chain {
    pub(crate) const ALL: [Self; 6] =
        [Self::Base, Self::Small, Self::Hardlinks, Self::Meta, Self::Whiteouts, Self::Image];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Small => "small",
            Self::Hardlinks => "hardlinks",
            Self::Meta => "meta",
            Self::Whiteouts => "whiteouts",
            Self::Image => "image",
        }
    }

    /// The names of its archives, of which each is also the id of the layer made from it.
    pub(crate) fn layers(self) -> &'static [&'static str] {
        match self {
            Self::Base => &["base"],
            Self::Small => &["small"],
            Self::Hardlinks => &["hardlinks"],
            Self::Meta => &["meta"],
            Self::Whiteouts => &["small", "whiteouts"],
            Self::Image => &["base", "small", "whiteouts", "meta"],
        }
    }
}

impl Layers {
    /// Those of the directory that `GRAPHDRIVER_TEST_LAYERS` names.
    pub(crate) fn from_environment() -> Self {
        Self { dir: env::var_os("GRAPHDRIVER_TEST_LAYERS").map(PathBuf::from) }
    }

    pub(crate) fn archive(&self, name: &str) -> Result<PathBuf, Need> {
        self.existing(&format!("{name}.tar"))
    }

    /// The OCI layout with [`Chain::Image`].
    pub(crate) fn image(&self) -> Result<PathBuf, Need> {
        self.existing("image")
    }

    fn existing(&self, name: &str) -> Result<PathBuf, Need> {
        let Some(dir) = &self.dir else {
            return Err(Need::Layers("GRAPHDRIVER_TEST_LAYERS names no directory".to_owned()));
        };
        let path = dir.join(name);
        if path.exists() { Ok(path) } else { Err(Need::Layers(format!("there is no {}", shown(&path)))) }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
