//! Short names that are lost, or lead elsewhere.

use crate::layout::LINK;
use crate::link::LinkId;

use super::repair::{Cure, Finding};
use super::survey::{Entry, Survey, Surveyed};

pub(super) fn find(survey: &Survey<'_>) -> Vec<Finding> {
    let of_layers = survey.layers.iter().filter_map(|layer| match &layer.link {
        Some(link) => check_entry(survey, layer, link),
        None => Some(lost_file(survey, layer)),
    });
    let of_entries = survey.entries.iter().filter_map(|entry| dead_entry(survey, entry));
    of_layers.chain(of_entries).collect()
}

/// Whether `l` has the name that the layer says it has.
fn check_entry(survey: &Survey<'_>, layer: &Surveyed, link: &LinkId) -> Option<Finding> {
    let twin = survey
        .layers
        .iter()
        .find(|other| other.link.as_ref() == Some(link) && other.dir.id() != layer.dir.id());
    let cure = match survey.entry(link) {
        _ if let Some(twin) = twin => {
            Cure::Advice(format!("layer {} has it too; find out which of the two it is", twin.dir.id()))
        }
        None => Cure::Relink(link.clone(), layer.dir.clone()),
        Some(entry) => match &entry.layer {
            Some(id) if id == layer.dir.id() => return None,
            Some(id) if survey.layers.iter().any(|other| other.dir.id() == id) => {
                Cure::Advice(format!("it leads to layer {id}; find out which of the two it is"))
            }
            _ => Cure::Relink(link.clone(), layer.dir.clone()),
        },
    };
    let what = format!("its short name {link} does not lead to it");
    Some(Finding { layer: Some(layer.dir.id().clone()), path: survey.store.link(link), what, cure })
}

/// A layer whose `link` file is lost: its name is what `l` has for it, or what the layers on it call it.
fn lost_file(survey: &Survey<'_>, layer: &Surveyed) -> Finding {
    let by_entry = survey.entries.iter().find(|entry| entry.layer.as_ref() == Some(layer.dir.id()));
    let cure = match by_entry.and_then(|entry| entry.link.clone()) {
        Some(link) => Cure::Name(link, layer.dir.clone()),
        None => match called(survey, layer).as_slice() {
            // Nobody calls it anything, so any name will do.
            [] => Cure::Name(LinkId::random(), layer.dir.clone()),
            [link] => Cure::Name(link.clone(), layer.dir.clone()),
            _ => Cure::Advice("which layer is called what cannot be told any more".to_owned()),
        },
    };
    let what = "its link file is lost".to_owned();
    Finding { layer: Some(layer.dir.id().clone()), path: layer.dir.path().join(LINK), what, cure }
}

/// The names without a layer that can be this one's: a layer names what is below it, nearest first, so that after a name the stack of the layer
/// called so follows. More than one when it cannot be told, also because another nameless layer has the same stack.
fn called(survey: &Survey<'_>, layer: &Surveyed) -> Vec<LinkId> {
    let Ok(stack) = &layer.lowers else { return Vec::new() };
    let mut names: Vec<LinkId> = Vec::new();
    for lowers in survey.layers.iter().filter_map(|other| other.lowers.as_ref().ok()) {
        for (index, entry) in lowers.iter().enumerate() {
            let Some(link) = entry.as_link().filter(|link| survey.is_orphan(link)) else { continue };
            let same_stack = lowers.get(index + 1..) == Some(stack);
            if same_stack && !names.contains(link) {
                names.push(link.clone());
            }
        }
    }
    let rivals = survey
        .layers
        .iter()
        .filter(|other| other.link.is_none() && other.lowers.as_ref().is_ok_and(|lowers| lowers == stack));
    if names.len() == 1 && rivals.count() > 1 {
        // As good as two names for one layer.
        names.extend(names.clone());
    }
    names
}

/// An entry of `l` that leads nowhere.
fn dead_entry(survey: &Survey<'_>, entry: &Entry) -> Option<Finding> {
    let advice = |text: &str| Cure::Advice(text.to_owned());
    let (what, cure) = match (&entry.link, &entry.layer) {
        (Some(link), Some(id)) if !survey.store.layer(id).path().exists() => {
            let taken = survey.layers.iter().any(|layer| layer.link.as_ref() == Some(link));
            if taken {
                return None;
            }
            let cure = if survey.wanted.contains(link) {
                advice("layers lie on it and cannot be mounted; restore it, or remove them")
            } else {
                Cure::Unlink(link.clone())
            };
            (format!("leads to layer {id}, which is gone"), cure)
        }
        (Some(_), Some(_)) => return None,
        _ => ("is no link to a layer".to_owned(), advice("the driver makes no such file; look what it is")),
    };
    Some(Finding { layer: None, path: entry.path.clone(), what, cure })
}
