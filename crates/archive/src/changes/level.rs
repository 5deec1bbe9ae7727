//! The names of a directory in two trees, merged.

use std::rc::Rc;

use super::suspects::SuspectPlace;
use crate::walk::Listing;

/// A directory whose entries are being compared.
pub(super) struct Level {
    pub(super) new: Rc<Listing>,
    pub(super) old: Rc<Listing>,
    pub(super) new_index: usize,
    pub(super) old_index: usize,
    /// Whether both sides have this directory.
    pub(super) paired: bool,
    /// `None` when all that is in it is to be compared.
    pub(super) suspect: Option<SuspectPlace>,
    /// Length of the path of the directory above.
    pub(super) above_bytes: usize,
}

/// The next name of the two listings merged: its place in the newer one, or in the older for what only that has.
pub(super) enum Next {
    Both { new: usize, old: usize },
    Added(usize),
    Deleted(usize),
}

impl Level {
    pub(super) fn next(&mut self) -> Option<Next> {
        let names = (self.new.name(self.new_index), self.old.name(self.old_index));
        let order = match names {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(new), Some(old)) => new.cmp(old),
        };
        let at = (self.new_index, self.old_index);
        self.new_index += usize::from(order.is_le());
        self.old_index += usize::from(order.is_ge());
        Some(match order {
            std::cmp::Ordering::Equal => Next::Both { new: at.0, old: at.1 },
            std::cmp::Ordering::Less => Next::Added(at.0),
            std::cmp::Ordering::Greater => Next::Deleted(at.1),
        })
    }
}
