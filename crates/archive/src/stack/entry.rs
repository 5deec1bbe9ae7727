//! What a layer says at one path.

use nix::sys::stat::FileStat;

use super::{LayerStack, Shown};
use crate::error::Result;
use crate::found::Found;

/// What a walk is for, which says what it has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// All about the layer's files, with their contents.
    Contents,
    /// What is below each of them.
    Changes,
    /// What `stat` tells of them.
    Sizes,
}

/// Something that a layer says.
#[derive(Debug)]
pub(crate) enum Entry {
    /// What lies below at this path is gone.
    Whiteout,
    /// AUFS's own mark that nothing shows through this directory.
    Opaque(FileStat),
    /// Something other than a directory, with what there is to know if that was the purpose.
    File { stat: FileStat, found: Option<Found>, below: Below },
    /// A directory; `replaces` when it takes the place of one below, of which nothing shows.
    Dir { found: Found, replaces: bool, below: Below },
}

/// What lies below an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// Nothing that shows, or it was not the purpose to know.
    Nothing,
    File,
    /// A directory; whether its owner, mode, time or attributes are others.
    Dir {
        differs: bool,
    },
}

impl Below {
    /// What `shown` is; compared with the layer's own directory, if it has one there.
    pub(super) fn of(stack: &LayerStack, shown: &Shown, dir: Option<&Found>) -> Result<Self> {
        match (shown, dir) {
            (Shown::Nothing, _) => Ok(Self::Nothing),
            (Shown::File(..), _) => Ok(Self::File),
            (Shown::Dir(lowers), Some(found)) => {
                let Some(lower) = lowers.first().filter(|lower| lower.kept().is_some()) else {
                    return Ok(Self::Dir { differs: true });
                };
                let (stat, xattrs) = stack.look_of(lower)?;
                Ok(Self::Dir { differs: !same_look(&found.stat, &stat) || found.xattrs != xattrs })
            }
            (Shown::Dir(_), None) => Ok(Self::Dir { differs: true }),
        }
    }
}

/// Whether a directory is there only for what is in it, as far as `stat` tells. The size of directories tells nothing.
fn same_look(one: &FileStat, other: &FileStat) -> bool {
    let metadata =
        |stat: &FileStat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    metadata(one) == metadata(other)
}
