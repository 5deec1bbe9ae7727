//! Which of the two drivers that Docker and containers/storage call `overlay` a home belongs to, told by the layers in it.

use std::path::Path;

use graphdriver_core::trees::list_ids;
use graphdriver_core::{Error, ErrorKind, LayerId, Result};

use crate::layout::{DIFF, LINK, is_of_driver};

/// In the directory of a hard-linked layer: its whole tree.
pub(crate) const ROOT: &str = "root";

/// In the directory of a hard-linked layer that has been mounted on another one: that one's id.
pub(crate) const LOWER_ID: &str = "lower-id";

/// What layers a home holds: one of each kind, if there is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HomeForm {
    /// Directories that overlay stacks, as containers/storage and Docker's `overlay2` keep them.
    pub(crate) stacked: Option<LayerId>,
    /// Trees with hard links between them, as Docker's `overlay` kept them.
    pub(crate) hard_linked: Option<LayerId>,
}

impl HomeForm {
    /// Looks at every layer's directory; a home that is not there has none.
    ///
    /// # Errors
    /// `PermissionDenied`, `Io`.
    pub(crate) fn of(home: &Path) -> Result<Self> {
        let mut form = Self::default();
        if !home.is_dir() {
            return Ok(form);
        }
        for (id, file_type) in list_ids(home)? {
            if !file_type.is_dir() || is_of_driver(id.as_str().as_ref()) {
                continue;
            }
            let has = |name: &str| home.join(&id).join(name).symlink_metadata().is_ok();
            if has(DIFF) || has(LINK) {
                form.stacked.get_or_insert(id);
            } else if has(ROOT) || has(LOWER_ID) {
                form.hard_linked.get_or_insert(id);
            }
        }
        Ok(form)
    }

    /// # Errors
    /// `InvalidArgument` for a home of hard-linked layers.
    pub(crate) fn require_stacked(&self, home: &Path) -> Result<()> {
        match self {
            Self { stacked: None, hard_linked: Some(layer) } => Err(refused(
                home,
                &format!(
                    "it holds hard-linked layers ({layer} is one), as the driver overlay of Docker 1.4 to 23 made them; open it with the driver overlay-hardlink"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// `InvalidArgument` for a home in which any layer is another driver's.
    pub(crate) fn require_hard_linked(&self, home: &Path) -> Result<()> {
        match &self.stacked {
            Some(layer) => Err(refused(
                home,
                &format!("it holds layers of the driver overlay ({layer} is one); open it with that one"),
            )),
            None => Ok(()),
        }
    }
}

/// The failure to use a home, and what can be done instead.
pub(crate) fn refused(home: &Path, detail: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "open home").path(home).detail(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn layers_tell_whose_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(dir.path().join(path)).unwrap();
        assert_eq!(HomeForm::of(&dir.path().join("missing")).unwrap(), HomeForm::default());
        make("tempdirs/root");
        make("l");
        make("incomplete/work");
        assert_eq!(HomeForm::of(dir.path()).unwrap(), HomeForm::default());
        make("image/root");
        let form = HomeForm::of(dir.path()).unwrap();
        assert_eq!((form.stacked.as_ref(), form.hard_linked.as_ref().unwrap().as_str()), (None, "image"));
        assert_eq!(form.require_stacked(dir.path()).unwrap_err().kind(), ErrorKind::InvalidArgument);
        form.require_hard_linked(dir.path()).unwrap();
        // A layer whose files happen to be called so is no other driver's.
        make("stacked/diff");
        make("stacked/root");
        let form = HomeForm::of(dir.path()).unwrap();
        assert_eq!(form.stacked.as_ref().unwrap().as_str(), "stacked");
        form.require_stacked(dir.path()).unwrap();
        let error = form.require_hard_linked(dir.path()).unwrap_err();
        assert!(error.to_string().contains("stacked is one"), "{error}");
    }

    #[test]
    fn a_container_that_was_never_written_to_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("container")).unwrap();
        fs::write(dir.path().join("container/lower-id"), "image").unwrap();
        let form = HomeForm::of(dir.path()).unwrap();
        assert_eq!(form.hard_linked.unwrap().as_str(), "container");
    }
}
