//! In the place of `library.rs` where the feature `libzfs` is not compiled in: the programs are asked.

#![allow(clippy::unused_self, clippy::option_option, reason = "the signatures are those of the library")]

use graphdriver_core::Feature;

use crate::dataset::Dataset;
use crate::options::ZfsTuning;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Library;

impl Library {
    pub(crate) fn find(_: ZfsTuning) -> Self {
        Self
    }

    pub(crate) fn feature(self) -> Feature {
        Feature::off("libzfs", "not compiled in")
    }

    pub(crate) fn values<const N: usize>(self, _: &Dataset, _: [&str; N]) -> Option<Option<[String; N]>> {
        None
    }

    pub(crate) fn children<const N: usize>(self, _: &Dataset, _: [&str; N]) -> Option<Vec<[String; N]>> {
        None
    }

    pub(crate) fn pool_health(self, _: &str) -> Option<String> {
        None
    }
}
