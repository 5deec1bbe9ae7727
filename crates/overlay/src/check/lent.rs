//! Layers whose contents an additional layer store no longer shows.

use std::fs;

use graphdriver_core::Result;

use crate::additional_layer;
use crate::layout::DIFF;

use super::repair::{Cure, Finding};
use super::survey::{Survey, Surveyed};

pub(super) fn find(survey: &Survey<'_>) -> Vec<Finding> {
    survey.layers.iter().filter_map(check).collect()
}

fn check(layer: &Surveyed) -> Option<Finding> {
    if !layer.dir.is_lent() {
        return None;
    }
    let what = match defect(layer) {
        Ok(what) => what?,
        Err(error) => error.report().to_string(),
    };
    let advice =
        "start the program that shows the additional layer store, or remove the layer and fetch it again";
    Some(Finding {
        layer: Some(layer.dir.id().clone()),
        path: layer.dir.diff(),
        what,
        cure: Cure::Advice(advice.to_owned()),
    })
}

fn defect(layer: &Surveyed) -> Result<Option<String>> {
    let diff = layer.dir.diff();
    let Some(shown) = additional_layer::read(&layer.dir)?.map(|shown| shown.join(DIFF)) else {
        return Ok(None);
    };
    if let Ok(target) = fs::read_link(&diff)
        && target != shown
    {
        return Ok(Some(format!("its {DIFF} leads to {target:?}, and it was made from {shown:?}")));
    }
    Ok((!diff.is_dir()).then(|| format!("{shown:?}, what it was made from, is not there")))
}
