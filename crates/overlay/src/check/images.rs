//! Layers that are kept as images, and have none.

use crate::mount::check_image;

use super::repair::{Cure, Finding};
use super::survey::{Survey, Surveyed};

pub(super) fn find(survey: &Survey<'_>) -> Vec<Finding> {
    survey.layers.iter().filter(|layer| layer.dir.is_image()).filter_map(finding).collect()
}

fn finding(layer: &Surveyed) -> Option<Finding> {
    let path = layer.dir.image();
    let error = check_image(&path).err()?;
    Some(Finding {
        layer: Some(layer.dir.id().clone()),
        path,
        what: format!("what it adds is kept as an image, which is lost: {}", error.report()),
        cure: Cure::Advice("remove the layer and those on it, and make it again".to_owned()),
    })
}
