//! Where two trees may differ.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// Places at which two trees may differ, told by who knows that they are the same everywhere else; see [`changes_among`](super::changes_among).
#[derive(Clone, Debug)]
pub struct Suspects {
    /// The root first. By index, so that trees of any depth are dropped without recursion.
    places: Vec<Place>,
}

/// A directory on the way to a suspect, or one itself.
#[derive(Clone, Debug, Default)]
struct Place {
    below: BTreeMap<CString, usize>,
    /// It may differ itself.
    suspect: bool,
    /// Names may be in it in one of the trees only.
    listed: bool,
}

impl Suspects {
    /// None: the trees are equal.
    pub fn new() -> Self {
        Self { places: vec![Place::default()] }
    }

    /// The root of both trees.
    pub fn root(&self) -> SuspectPlace {
        SuspectPlace(0)
    }

    /// What is at `name`, one path component, in the directory `dir`, in either tree, may differ from what is there in the other, or be there in one of the trees only.
    pub fn add(&mut self, dir: SuspectPlace, name: &[u8]) -> SuspectPlace {
        let place = self.lead(dir, name);
        self.places[place.0].suspect = true;
        place
    }

    /// What is at `name`, one path component, in the directory `dir`, is the same directory in both trees, unless it is [added](Self::add) too, and leads to suspects.
    pub fn lead(&mut self, dir: SuspectPlace, name: &[u8]) -> SuspectPlace {
        // No file has a name with a NUL in it.
        let Ok(name) = CString::new(name) else { return dir };
        let next = self.places.len();
        let index = *self.places[dir.0].below.entry(name).or_insert(next);
        if index == next {
            self.places.push(Place::default());
        }
        SuspectPlace(index)
    }

    /// The directory `dir`, in either tree, may hold other names than in the other tree, or the same names for other files.
    pub fn list(&mut self, dir: SuspectPlace) {
        self.places[dir.0].listed = true;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.len() == 1 && !self.places[0].listed
    }

    /// Whether it may differ itself.
    pub(super) fn is_suspect(&self, place: SuspectPlace) -> bool {
        self.places[place.0].suspect
    }

    /// Whether all names of the directory are to be looked at.
    pub(super) fn is_listed(&self, place: SuspectPlace) -> bool {
        self.places[place.0].listed
    }

    /// The names in the directory that are suspect or lead to suspects, sorted.
    pub(super) fn names(&self, place: SuspectPlace) -> impl Iterator<Item = &CStr> {
        self.places[place.0].below.keys().map(CString::as_c_str)
    }

    /// The place of `name` in the directory, if it is suspect or leads to suspects.
    pub(super) fn below(&self, place: SuspectPlace, name: &CStr) -> Option<SuspectPlace> {
        self.places[place.0].below.get(name).map(|index| SuspectPlace(*index))
    }
}

impl Default for Suspects {
    fn default() -> Self {
        Self::new()
    }
}

/// A path, in the [`Suspects`] that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspectPlace(usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_to_each_of_them() {
        let mut suspects = Suspects::new();
        assert!(suspects.is_empty());
        let root = suspects.root();
        let a = suspects.lead(root, b"a");
        let b = suspects.add(a, b"b");
        assert_ne!(suspects.add(a, b"c"), b);
        assert_eq!(suspects.add(a, b"b"), b);
        suspects.list(b);
        assert!(!suspects.is_empty());
        assert!(suspects.names(a).eq([c"b", c"c"]));
        assert_eq!((suspects.is_listed(a), suspects.is_listed(b)), (false, true));
        assert_eq!([a, b].map(|place| suspects.is_suspect(place)), [false, true]);
        assert_eq!(suspects.add(root, b"a"), a);
        assert_eq!(suspects.lead(root, b"a"), a);
        assert!(suspects.is_suspect(a), "whatever else it leads to");
        assert_eq!((suspects.below(a, c"b"), suspects.below(b, c"c")), (Some(b), None));
    }

    #[test]
    fn the_root_is_a_directory_too() {
        let mut suspects = Suspects::new();
        suspects.list(suspects.root());
        assert!(!suspects.is_empty() && suspects.is_listed(suspects.root()));
    }

    #[test]
    fn a_path_of_any_depth_is_dropped() {
        let mut suspects = Suspects::new();
        let deepest = (0..200_000).fold(suspects.root(), |dir, _| suspects.add(dir, b"d"));
        assert_ne!(deepest, suspects.root());
        drop(suspects);
    }
}
