//! Asking the pool in process, by libzfs, what a program would be run for otherwise. Whatever the library refuses is asked of the program, whose words are in the errors.

use std::ffi::CString;

use graphdriver_core::Feature;
use graphdriver_sys::libzfs::{Libzfs, Refused, Session};

use crate::dataset::Dataset;
use crate::options::ZfsTuning;

/// The library, or why there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library(Result<&'static Libzfs, &'static str>);

impl Library {
    pub(crate) fn find(tuning: ZfsTuning) -> Self {
        Self(if tuning.programs_only { Err("not wanted") } else { Libzfs::load() })
    }

    pub(crate) fn feature(self) -> Feature {
        match self.0 {
            Ok(_) => Feature::on("libzfs"),
            Err(reason) => Feature::off("libzfs", reason),
        }
    }

    /// Properties of a dataset, `Some(None)` when there is no such file system; `None` where the program has to be asked.
    #[allow(clippy::option_option, reason = "whether there is an answer, and which")]
    pub(crate) fn values<const N: usize>(
        self,
        dataset: &Dataset,
        properties: [&str; N],
    ) -> Option<Option<[String; N]>> {
        let (dataset, properties) = (words([dataset.as_str()])?, words(properties)?);
        let [dataset] = &dataset;
        self.ask(|session| session.values(dataset, properties.each_ref().map(CString::as_c_str)))
    }

    /// Properties of the file systems directly below a dataset; `None` where the program has to be asked.
    pub(crate) fn children<const N: usize>(
        self,
        dataset: &Dataset,
        properties: [&str; N],
    ) -> Option<Vec<[String; N]>> {
        let ([dataset], properties) = (&words([dataset.as_str()])?, words(properties)?);
        self.ask(|session| session.children(dataset, properties.each_ref().map(CString::as_c_str)))
    }

    /// The health of a pool; `None` where the program has to be asked.
    pub(crate) fn pool_health(self, pool: &str) -> Option<String> {
        let [pool] = &words([pool])?;
        self.ask(|session| session.pool_health(pool))
    }

    fn ask<T>(self, question: impl FnOnce(&Session) -> Result<T, Refused>) -> Option<T> {
        let session = self.0.ok()?.session();
        let session = session.inspect_err(|error| tracing::debug!(%error, "libzfs")).ok()?;
        question(&session).inspect_err(|refused| tracing::debug!(%refused, "libzfs")).ok()
    }
}

fn words<const N: usize>(words: [&str; N]) -> Option<[CString; N]> {
    let words: Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
    words.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_the_programs_are_asked() {
        let library = Library::find(ZfsTuning::default().by_programs_only());
        let dataset = Dataset::new("tank/layer").unwrap();
        assert_eq!(library.values(&dataset, ["name", "used"]), None);
        assert_eq!(library.children(&dataset, ["name"]), None);
        assert_eq!(library.pool_health("tank"), None);
        assert_eq!(library.feature().reason(), Some("not wanted"));
    }
}
