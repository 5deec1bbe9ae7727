//! What is amiss in a home.

use std::fmt;
use std::path::PathBuf;

use crate::layer_id::LayerId;

/// Something amiss in a home, as [`Driver::check`](crate::Driver::check) finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "CheckReport")]
pub struct Problem {
    /// The layer that it is about, if it is about one.
    pub layer: Option<LayerId>,
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What was done about it, or can be.
    pub remedy: Remedy,
}

/// What becomes of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "RepairOptions")]
pub enum Remedy {
    /// It is mended.
    Repaired,
    /// A repair would mend it, as the text says: without loss, since what is removed is proved dead, and what is written is known from elsewhere.
    Repairable(String),
    /// Somebody has to decide; the text says what can be done.
    Manual(String),
}

impl Problem {
    /// A temporary directory of a process that is gone, at `path`: what a repair deletes, unless one has just tried to (`repaired`).
    pub fn leftover(path: PathBuf, repaired: bool) -> Self {
        let remedy = if repaired {
            Remedy::Manual("it cannot be removed: something in it is mounted or immutable".to_owned())
        } else {
            Remedy::Repairable("removes it".to_owned())
        };
        Self { layer: None, path, what: "left by a process that is gone".to_owned(), remedy }
    }

    /// Whether it still is one.
    pub fn remains(&self) -> bool {
        self.remedy != Remedy::Repaired
    }
}

impl fmt::Display for Problem {
    /// `layer ID: what (remedy)`, or with the path where it is about no layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.layer {
            Some(layer) => write!(f, "layer {layer}: {}", self.what)?,
            None => write!(f, "{:?}: {}", self.path, self.what)?,
        }
        match &self.remedy {
            Remedy::Repaired => f.write_str(" (repaired)"),
            Remedy::Repairable(how) => write!(f, " (a repair {how})"),
            Remedy::Manual(advice) => write!(f, " ({advice})"),
        }
    }
}
