//! In which order layers can be removed.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use graphdriver::LayerId;

/// `ids`, each once, so that every layer comes before its parent; otherwise in the order given.
///
/// A layer whose parent cannot be told (`None`) is taken to have none: removing it tells why.
pub(super) fn children_first(ids: &[LayerId], parent: impl Fn(&LayerId) -> Option<LayerId>) -> Vec<LayerId> {
    let mut depths = HashMap::new();
    let mut seen = HashSet::new();
    let mut ordered: Vec<&LayerId> = ids.iter().filter(|id| seen.insert(*id)).collect();
    // Stable, so that equals stay in the order given.
    ordered.sort_by_cached_key(|id| Reverse(depth(id, &parent, &mut depths)));
    ordered.into_iter().cloned().collect()
}

/// How many layers are below `id`.
fn depth(
    id: &LayerId,
    parent: &impl Fn(&LayerId) -> Option<LayerId>,
    known: &mut HashMap<LayerId, usize>,
) -> usize {
    let mut above = Vec::new();
    let mut next = Some(id.clone());
    let mut depth = 0;
    while let Some(id) = next {
        if let Some(known) = known.get(&id) {
            depth = known + 1;
            break;
        }
        // A damaged store may have a layer that is its own ancestor: known from here on, it ends the walk.
        known.insert(id.clone(), 0);
        next = parent(&id);
        above.push(id);
    }
    for id in above.into_iter().rev() {
        known.insert(id, depth);
        depth += 1;
    }
    known.get(id).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<LayerId> {
        text.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    #[test]
    fn whatever_the_order_given() {
        // a <- b <- c <- d, a <- e, loop <- loop2 <- loop, single
        let pairs = [("b", "a"), ("c", "b"), ("d", "c"), ("e", "a"), ("loop", "loop2"), ("loop2", "loop")];
        let parent = |id: &LayerId| pairs.iter().find(|(child, _)| *child == id.as_str())?.1.parse().ok();
        let table = [
            ("a b c d", "d c b a"),
            ("d c b a", "d c b a"),
            ("a d", "d a"),
            ("a e d a", "d e a"),
            ("single a unknown", "single a unknown"),
            ("", ""),
        ];
        for (given, expected) in table {
            assert_eq!(children_first(&ids(given), parent), ids(expected), "{given:?}");
        }
        assert_eq!(children_first(&ids("loop a loop2"), parent).len(), 3);
    }
}
