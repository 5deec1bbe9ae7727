//! What is remembered of a layer that its files do not tell.

use graphdriver_core::LayerId;

/// The contents of `<home>/<layer>/note`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Docker knows the parents of its layers, and keeps them elsewhere.
    pub(super) parent: Option<LayerId>,
    /// Whether no file in the layer's tree has a name in another layer. Unknown is no.
    pub(super) owns_files: bool,
}

const PARENT: &str = "parent ";
const OWN: &str = "files own";
const SHARED: &str = "files shared";

impl Note {
    pub(super) fn to_text(&self) -> String {
        let parent = self.parent.as_ref().map(|parent| format!("{PARENT}{parent}\n")).unwrap_or_default();
        format!("{parent}{}\n", if self.owns_files { OWN } else { SHARED })
    }

    /// `None` for a text that [`to_text`](Self::to_text) did not write.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut note = Self::default();
        for line in std::str::from_utf8(text).ok()?.strip_suffix('\n')?.split('\n') {
            match (line.strip_prefix(PARENT), line) {
                (Some(parent), _) => note.parent = Some(parent.parse().ok()?),
                (None, OWN) => note.owns_files = true,
                (None, SHARED) => note.owns_files = false,
                _ => return None,
            }
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (note, text) in [
            (Note::default(), "files shared\n"),
            (Note { parent: Some("base".parse().unwrap()), owns_files: true }, "parent base\nfiles own\n"),
        ] {
            assert_eq!(note.to_text(), text);
            assert_eq!(Note::parse(text.as_bytes()), Some(note));
        }
    }

    #[test]
    fn other_texts_are_no_notes() {
        for text in [&b""[..], b"files own", b"parent ../base\n", b"parent base\nfiles\n", b"\xff\n"] {
            assert_eq!(Note::parse(text), None, "{text:?}");
        }
    }
}
