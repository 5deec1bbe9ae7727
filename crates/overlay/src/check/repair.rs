//! What is done about a finding.

use std::fs::{self, File};
use std::path::PathBuf;

use graphdriver_core::{Error, ErrorKind, LayerId, Problem, Remedy, Result, write_atomic};

use crate::home::Home;
use crate::layout::{LINK, LINKS, LayerDir, Layout};
use crate::link::{self, LinkId};
use crate::peers;

/// Something amiss, and what would mend it.
pub(super) struct Finding {
    pub(super) layer: Option<LayerId>,
    pub(super) path: PathBuf,
    pub(super) what: String,
    pub(super) cure: Cure,
}

pub(super) enum Cure {
    /// Makes `l/<link>` lead to the layer, whatever is there.
    Relink(LinkId, LayerDir),
    /// Removes `l/<link>`.
    Unlink(LinkId),
    /// Writes the layer's `link` file, and makes the link.
    Name(LinkId, LayerDir),
    /// Removes what a killed process has made of a layer.
    Discard(LayerDir),
    /// What somebody has to do.
    Advice(String),
}

impl Finding {
    /// The problem to be told, after the repair if there is to be one. The caller holds the store's lock, exclusively for a repair.
    pub(super) fn conclude(self, home: &Home, store: &Layout, repair: bool) -> Problem {
        let Self { layer, path, what, cure } = self;
        let remedy = match &cure {
            Cure::Advice(advice) => Remedy::Manual(advice.clone()),
            cure if !repair => Remedy::Repairable(cure.to_string()),
            cure => match cure.apply(home, store) {
                Ok(()) => Remedy::Repaired,
                Err(error) => Remedy::Manual(format!("not repaired: {}", error.report())),
            },
        };
        Problem { layer, path, what, remedy }
    }
}

impl Cure {
    fn apply(&self, home: &Home, store: &Layout) -> Result<()> {
        match self {
            Self::Relink(link, layer) => {
                link::remove(store, link)?;
                link::make(store, link, layer.id())
            }
            Self::Unlink(link) => link::remove(store, link),
            Self::Name(link, layer) => {
                let path = layer.path();
                let dir = File::open(path).map_err(|error| Error::io("open", path, error))?;
                write_atomic(&dir, LINK, link.as_str().as_bytes(), 0o644)
                    .map_err(|error| error.path(path.join(LINK)))?;
                link::make(store, link, layer.id())
            }
            Self::Discard(layer) => discard(home, store, layer),
            Self::Advice(_) => Ok(()),
        }
    }
}

impl std::fmt::Display for Cure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relink(link, layer) => write!(f, "makes {LINKS}/{link} lead to {}", layer.id()),
            Self::Unlink(link) => write!(f, "removes {LINKS}/{link}"),
            Self::Name(link, _) => write!(f, "writes it again, with the name {link}"),
            Self::Discard(layer) => write!(f, "removes {:?}", layer.path()),
            Self::Advice(advice) => f.write_str(advice),
        }
    }
}

/// Removes the directory of a layer that was never complete, unless another program may be making it this moment.
fn discard(home: &Home, store: &Layout, layer: &LayerDir) -> Result<()> {
    let _idle = peers::lock_out(store)?;
    if layer.exists()? {
        let detail = "another program has completed the layer meanwhile";
        return Err(Error::new(ErrorKind::LayerInUse, "remove").layer(layer.id()).detail(detail));
    }
    let name = link::read(layer)?;
    let temp_dir = home.temp_dirs_of(store).create()?;
    home.references.while_unused(layer.id(), &layer.merged(), || temp_dir.take_in(layer.path()))?;
    if let Some(name) =
        name.filter(|name| fs::read_link(store.link(name)).is_ok_and(|to| to == link::target(layer.id())))
    {
        link::remove(store, &name)?;
    }
    temp_dir.delete()
}
