//! What a mount of a layer is made of.

use std::borrow::Cow;
use std::path::Path;

use graphdriver_core::{Error, ErrorKind, Result};

use crate::home::Home;
use crate::layout::LayerDir;
use crate::lowers::{self, MAX_LOWERS};
use crate::mount::Part;

/// A layer and those below it, as a mount has them.
#[derive(Debug)]
pub(crate) struct Stack {
    /// What is only read, uppermost first; never none, since the kernel wants something below.
    pub(crate) parts: Vec<Part<'static>>,
    /// How many of the first parts are the layer's own.
    pub(crate) own: usize,
    /// Whether other layers are among the others.
    pub(crate) has_parents: bool,
    /// Contents of the files of images.
    pub(crate) objects: Vec<Cow<'static, Path>>,
    /// Whether the layer's directory is above the parts, so that it can be written to.
    pub(crate) has_upper: bool,
}

impl Stack {
    /// The stack of a mount that may be written to unless it is `read_only`, or the layer must `never` be.
    ///
    /// # Errors
    /// `InvalidArgument` for a layer that is only read, and has as much below as the kernel stacks; as [`lowers::resolve`].
    pub(crate) fn of(home: &Home, layer: &LayerDir, read_only: bool, never: bool) -> Result<Self> {
        let below = lowers::resolve(&home.stores, layer)?;
        let mut parts = layer.parts();
        let mut own = parts.len();
        parts.extend(lowers::parts(&below).cloned());
        // A base layer has nothing below.
        if parts.len() == 1 {
            parts.push(Part::Directory(Cow::from(layer.empty())));
        }
        let own_objects = layer.objects().map(Cow::from);
        let objects: Vec<_> = own_objects
            .into_iter()
            .chain(lowers::objects(&below).map(|path| Cow::from(path.to_owned())))
            .collect();
        // Read-only layers need no work directory, and share their upper directory with nobody. Where the layer would be one directory too many
        // below, it stays above, and only the mount is read-only.
        let count = parts.len() + objects.len();
        let has_upper = !(read_only || never) || count > MAX_LOWERS;
        if has_upper && never {
            let below = count - 1;
            let detail = format!(
                "the kernel stacks {MAX_LOWERS} directories that are only read, and it has {below} below"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, "mount").path(layer.path()).detail(detail));
        }
        if has_upper {
            parts.remove(0);
            own -= 1;
        }
        Ok(Self { parts, own, has_parents: !below.is_empty(), objects, has_upper })
    }
}
