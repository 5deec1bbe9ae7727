//! Layers that lack a layer below, or say something else of it than it does.

use graphdriver_core::LayerId;

use crate::layout::LOWER;
use crate::lowers::MAX_LOWERS;

use super::repair::{Cure, Finding};
use super::survey::{Survey, Surveyed};

pub(super) fn find(survey: &Survey<'_>) -> Vec<Finding> {
    survey.layers.iter().filter_map(|layer| check(survey, layer)).collect()
}

fn check(survey: &Survey<'_>, layer: &Surveyed) -> Option<Finding> {
    let what = defect(survey, layer)?;
    let advice = "it cannot be mounted; restore what is missing, or remove it and fetch it again".to_owned();
    Some(Finding {
        layer: Some(layer.dir.id().clone()),
        path: layer.dir.path().join(LOWER),
        what,
        cure: Cure::Advice(advice),
    })
}

fn defect(survey: &Survey<'_>, layer: &Surveyed) -> Option<String> {
    let lowers = match &layer.lowers {
        Ok(lowers) => lowers,
        Err(error) => return Some(error.report().to_string()),
    };
    if lowers.len() > MAX_LOWERS {
        return Some(format!("{} layers lie below it; the kernel stacks {MAX_LOWERS}", lowers.len()));
    }
    let mut below: Vec<LayerId> = Vec::new();
    for entry in lowers {
        match survey.resolve(entry) {
            Ok(Some(found)) => below.push(found.id().clone()),
            Ok(None) => return Some(format!("the layer {entry} below it is missing")),
            Err(error) => return Some(error.report().to_string()),
        }
    }
    contradiction(survey, &below)
}

/// Whether the parent has other layers below it than its child says.
fn contradiction(survey: &Survey<'_>, below: &[LayerId]) -> Option<String> {
    let (parent, rest) = below.split_first()?;
    let parent = survey.layers.iter().find(|layer| layer.dir.id() == parent)?;
    let of_parent = parent.lowers.as_ref().ok()?.iter().map(|entry| survey.resolve(entry).ok().flatten());
    let of_parent: Vec<LayerId> = of_parent.map(|layer| Some(layer?.id().clone())).collect::<Option<_>>()?;
    (of_parent != rest).then(|| format!("its parent {} has other layers below it", parent.dir.id()))
}
