//! Kinds of errors by name, which one end of this crate tells the other.

use graphdriver_core::ErrorKind;

const NAMES: [(&str, ErrorKind); 14] = [
    ("NotSupported", ErrorKind::NotSupported),
    ("Prerequisites", ErrorKind::Prerequisites),
    ("IncompatibleFs", ErrorKind::IncompatibleFs),
    ("LayerUnknown", ErrorKind::LayerUnknown),
    ("ParentUnknown", ErrorKind::ParentUnknown),
    ("LayerExists", ErrorKind::LayerExists),
    ("LayerInUse", ErrorKind::LayerInUse),
    ("InvalidArgument", ErrorKind::InvalidArgument),
    ("InvalidArchive", ErrorKind::InvalidArchive),
    ("PathEscape", ErrorKind::PathEscape),
    ("NoSpace", ErrorKind::NoSpace),
    ("PermissionDenied", ErrorKind::PermissionDenied),
    ("Command", ErrorKind::Command),
    ("Io", ErrorKind::Io),
];

/// The name of a kind; empty for one that has none yet.
pub(crate) fn name_of(kind: ErrorKind) -> &'static str {
    NAMES.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name)
}

/// The kind of this name, if it has one.
pub(crate) fn kind_named(name: &str) -> Option<ErrorKind> {
    NAMES.iter().find(|(other, _)| *other == name).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kinds() {
        for (name, kind) in NAMES {
            assert_eq!(name, format!("{kind:?}"));
            assert_eq!(kind_named(name_of(kind)), Some(kind));
        }
        assert_eq!(kind_named(""), None);
    }
}
