//! Layers of one driver become layers of another, with the same ids.
//!
//! Parents before children, each whole or not at all, so that it can be stopped at any moment and started again: what is there already is verified, not moved a second time. Nothing is taken from the source
//! before all of it is at its destination.

mod layer;
mod leftovers;
mod order;

use std::collections::HashMap;

use graphdriver::{Graph, LayerId};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::import::Interrupt;

use layer::Proof;
pub(crate) use leftovers::remove_empty_home;
use order::parents_first;

/// What becomes of one layer.
#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Made, and verified.
    Moved {
        proof: Proof,
    },
    /// There before, and verified.
    Present {
        proof: Proof,
    },
    /// A dry run would make it.
    Planned,
    Failed {
        error: String,
    },
    /// The layer below could not be moved.
    Skipped,
}

impl Outcome {
    /// Whether the layer is at its destination.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Present { .. })
    }
}

/// Two drivers, one of which gets the other's layers.
#[derive(Debug)]
pub(crate) struct Migration<'a> {
    pub(crate) from: &'a Graph,
    pub(crate) to: &'a Graph,
    pub(crate) interrupt: &'a Interrupt,
}

impl Migration<'_> {
    /// What would be done, nothing being touched.
    ///
    /// # Errors
    /// As the drivers, when they cannot tell what there is.
    pub(crate) fn preview(&self) -> Result<Vec<Moved>> {
        let mut rows = Vec::new();
        for (id, parent) in plan(self.from)? {
            let outcome = if self.to.exists(&id)? {
                match layer::verify(self, &id, parent.as_ref()) {
                    Ok(proof) => Outcome::Present { proof },
                    Err(error) => failed(&error),
                }
            } else {
                Outcome::Planned
            };
            rows.push(row(&id, parent.as_ref(), outcome));
        }
        Ok(rows)
    }

    /// Makes all layers; `tell` is told of each before and after.
    ///
    /// # Errors
    /// `Interrupted` by a signal, what was made so far being kept; as the driver, when it cannot list its layers. What is wrong with one layer is in its row.
    pub(crate) fn run(&self, mut tell: impl FnMut(&LayerId, Option<&Outcome>)) -> Result<Vec<Moved>> {
        let mut rows: Vec<Moved> = Vec::new();
        let mut missing: Vec<LayerId> = Vec::new();
        for (id, parent) in plan(self.from)? {
            if let Some(signal) = self.interrupt.received() {
                return Err(Failure::Interrupted(signal));
            }
            tell(&id, None);
            let outcome = if parent.as_ref().is_some_and(|parent| missing.contains(parent)) {
                Outcome::Skipped
            } else {
                match layer::make(self, &id, parent.as_ref()) {
                    Ok(outcome) => outcome,
                    Err(Failure::Error(error)) => failed(&error),
                    Err(other) => return Err(other),
                }
            };
            tell(&id, Some(&outcome));
            if !outcome.is_there() {
                missing.push(id.clone());
            }
            rows.push(row(&id, parent.as_ref(), outcome));
        }
        Ok(rows)
    }

    /// Removes the layers from the source, children first.
    ///
    /// # Errors
    /// `Interrupted`; the first layer that cannot be removed, the others above it being gone.
    pub(crate) fn remove_source(&self) -> Result {
        for (id, _) in plan(self.from)?.iter().rev() {
            if let Some(signal) = self.interrupt.received() {
                return Err(Failure::Interrupted(signal));
            }
            self.from.remove(id)?;
        }
        Ok(())
    }
}

/// The layers and their parents, in the order in which they can be made.
///
/// # Errors
/// As the driver, when it cannot list them.
pub(crate) fn plan(from: &Graph) -> Result<Vec<(LayerId, Option<LayerId>)>> {
    let mut layers = HashMap::new();
    for id in from.layers()? {
        layers.insert(id.clone(), from.parent(&id)?);
    }
    Ok(parents_first(layers))
}

fn failed(error: &graphdriver::Error) -> Outcome {
    Outcome::Failed { error: error.report().to_string() }
}

/// What is said of one layer.
pub(crate) fn row(id: &LayerId, parent: Option<&LayerId>, outcome: Outcome) -> Moved {
    Moved { id: id.to_string(), parent: parent.map(ToString::to_string), outcome }
}
