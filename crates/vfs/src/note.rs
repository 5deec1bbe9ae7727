//! What is remembered of how a layer was made.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use graphdriver_core::LayerId;

/// The contents of `<home>/parents/<layer>`: two lines, the parent's id and the moment at which the copy of it was complete.
///
/// The moment is kept as text, not as the time of the file, because programs that copy a home seldom keep that. In a copied home all files are
/// younger than the moment, so that their contents are compared and nothing is missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParentNote {
    pub(crate) parent: LayerId,
    /// By the clock of the file system that the layer is on.
    pub(crate) copied_at: SystemTime,
}

const COPIED: &str = "copied ";

impl ParentNote {
    pub(crate) fn to_text(&self) -> String {
        // A clock that stands before 1970 makes all files younger than the moment, which is safe.
        let since = self.copied_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}\n{COPIED}{}.{:09}\n", self.parent, since.as_secs(), since.subsec_nanos())
    }

    /// `None` for a text that [`to_text`](Self::to_text) did not write.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.split('\n');
        let parent = lines.next()?.parse().ok()?;
        let (seconds, nanoseconds) = lines.next()?.strip_prefix(COPIED)?.split_once('.')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(seconds) || nanoseconds.len() != 9 || !is_number(nanoseconds) || lines.next().is_some()
        {
            return None;
        }
        let since = Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?);
        Some(Self { parent, copied_at: UNIX_EPOCH.checked_add(since)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let note = ParentNote {
            parent: "base".parse().unwrap(),
            copied_at: UNIX_EPOCH + Duration::new(1_700_000_000, 5_000_000),
        };
        assert_eq!(note.to_text(), "base\ncopied 1700000000.005000000\n");
        assert_eq!(ParentNote::parse(note.to_text().as_bytes()), Some(note));
    }

    #[test]
    fn a_clock_before_1970_is_not_lost() {
        let note =
            ParentNote { parent: "base".parse().unwrap(), copied_at: UNIX_EPOCH - Duration::from_secs(5) };
        assert_eq!(ParentNote::parse(note.to_text().as_bytes()).unwrap().copied_at, UNIX_EPOCH);
    }

    #[test]
    fn other_texts_are_no_notes() {
        for text in [
            "",
            "base",
            "base\n",
            "base\ncopied 1.000000000",
            "base\ncopied 1.5\n",
            "base\ncopied -1.000000000\n",
            "base\ncopied 18446744073709551616.000000000\n",
            "base\ncopied 18446744073709551615.000000000\n",
            "base\ncopied 1.000000000\nmore\n",
            "../base\ncopied 1.000000000\n",
            "base\nmoved 1.000000000\n",
        ] {
            assert_eq!(ParentNote::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(ParentNote::parse(b"\xff\ncopied 1.000000000\n"), None);
    }
}
