//! In which order layers can be made.

use std::collections::HashMap;

use graphdriver::LayerId;

/// The layers with their parents, every parent before its children, otherwise sorted. A parent that is not among them does not come; layers that are their own ancestors, as a damaged store may have, come last.
pub(super) fn parents_first(
    mut layers: HashMap<LayerId, Option<LayerId>>,
) -> Vec<(LayerId, Option<LayerId>)> {
    let mut children: HashMap<LayerId, Vec<LayerId>> = HashMap::new();
    let mut ready = Vec::new();
    for (id, parent) in &layers {
        match parent {
            Some(parent) if layers.contains_key(parent) => {
                children.entry(parent.clone()).or_default().push(id.clone());
            }
            _ => ready.push(id.clone()),
        }
    }
    ready.sort_unstable_by(|a, b| b.cmp(a));
    let mut ordered = Vec::with_capacity(layers.len());
    while let Some(id) = ready.pop() {
        let mut next = children.remove(&id).unwrap_or_default();
        next.sort_unstable_by(|a, b| b.cmp(a));
        ready.append(&mut next);
        if let Some(parent) = layers.remove(&id) {
            ordered.push((id, parent));
        }
    }
    let mut circular: Vec<_> = layers.into_iter().collect();
    circular.sort_unstable();
    ordered.extend(circular);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first() {
        let id = |text: &str| text.parse::<LayerId>().unwrap();
        let pairs = [
            ("b", "z"),
            ("a", "b"),
            ("z", ""),
            ("lost", "missing"),
            ("c", "z"),
            ("loop", "pool"),
            ("pool", "loop"),
        ];
        let layers = pairs
            .iter()
            .map(|(child, parent)| (id(child), (!parent.is_empty()).then(|| id(parent))))
            .collect();
        let ordered = parents_first(layers);
        let names: Vec<&str> = ordered.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(names, ["lost", "z", "b", "a", "c", "loop", "pool"]);
        assert_eq!(ordered[0].1, Some(id("missing")));
    }
}
