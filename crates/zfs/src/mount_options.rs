//! The mount options of a layer.

use std::fmt;

use graphdriver_core::{Error, ErrorKind, Result};
use graphdriver_sys::mount_api::MountAttrFlags;
use nix::mount::MsFlags;

/// A word that sets something for one mount, for either way of mounting.
struct Word {
    text: &'static str,
    flags: MountAttrFlags,
    classic: MsFlags,
}

const fn word(text: &'static str, flags: MountAttrFlags, classic: MsFlags) -> Word {
    Word { text, flags, classic }
}

const WORDS: [Word; 7] = [
    word("noatime", MountAttrFlags::NOATIME, MsFlags::MS_NOATIME),
    word("nodev", MountAttrFlags::NODEV, MsFlags::MS_NODEV),
    word("nodiratime", MountAttrFlags::NODIRATIME, MsFlags::MS_NODIRATIME),
    word("noexec", MountAttrFlags::NOEXEC, MsFlags::MS_NOEXEC),
    word("nosuid", MountAttrFlags::NOSUID, MsFlags::MS_NOSUID),
    word("ro", MountAttrFlags::RDONLY, MsFlags::MS_RDONLY),
    word("strictatime", MountAttrFlags::STRICTATIME, MsFlags::MS_STRICTATIME),
];

/// Say what is so anyway, and take back what was said before.
const DEFAULTS: [(&str, &str); 8] = [
    ("atime", "noatime"),
    ("dev", "nodev"),
    ("diratime", "nodiratime"),
    ("exec", "noexec"),
    ("relatime", "strictatime"),
    ("rw", "ro"),
    ("suid", "nosuid"),
    ("defaults", ""),
];

/// Options that ZFS itself takes, for extended attributes.
const OF_ZFS: [&str; 4] = ["dirxattr", "noxattr", "saxattr", "xattr"];

/// Mount options, as they will be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountWords {
    set: [bool; WORDS.len()],
    /// For the file system.
    pub(crate) data: Vec<String>,
}

impl MountWords {
    /// # Errors
    /// `InvalidArgument` for a word that is not known.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        Self::default().and(words)
    }

    /// These options, and then `words`, which win.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn and<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut result = self.clone();
        for word in words {
            if let Some(index) = WORDS.iter().position(|known| known.text == word) {
                result.set[index] = true;
            } else if let Some((_, opposite)) = DEFAULTS.iter().find(|(text, _)| *text == word) {
                if let Some(index) = WORDS.iter().position(|known| known.text == *opposite) {
                    result.set[index] = false;
                }
            } else if OF_ZFS.contains(&word) {
                result.data.push(word.to_owned());
            } else {
                return Err(unknown(word));
            }
        }
        Ok(result)
    }

    /// The same, and nothing can be written.
    pub(crate) fn read_only(mut self) -> Self {
        for (set, word) in self.set.iter_mut().zip(&WORDS) {
            *set |= word.text == "ro";
        }
        self
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.set.iter().zip(&WORDS).any(|(set, word)| *set && word.text == "ro")
    }

    /// For a mount made by descriptors.
    pub(crate) fn flags(&self) -> MountAttrFlags {
        self.words().fold(MountAttrFlags::empty(), |flags, word| flags | word.flags)
    }

    /// For `mount(2)`.
    pub(crate) fn classic(&self) -> MsFlags {
        self.words().fold(MsFlags::empty(), |flags, word| flags | word.classic)
    }

    fn words(&self) -> impl Iterator<Item = &'static Word> {
        WORDS.iter().zip(self.set).filter_map(|(word, set)| set.then_some(word))
    }
}

impl fmt::Display for MountWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> =
            self.words().map(|word| word.text).chain(self.data.iter().map(String::as_str)).collect();
        f.write_str(&words.join(","))
    }
}

fn unknown(word: &str) -> Error {
    let known: Vec<&str> = WORDS
        .iter()
        .map(|word| word.text)
        .chain(DEFAULTS.iter().map(|(text, _)| *text))
        .chain(OF_ZFS)
        .collect();
    Error::new(ErrorKind::InvalidArgument, "parse mount options").detail(format!(
        "{word:?} is no mount option that the zfs driver knows; it knows: {}",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_win() {
        for (words, shown) in [
            (&["ro", "nodev"][..], "nodev,ro"),
            (&["ro", "rw"], ""),
            (&["noatime", "defaults"], "noatime"),
            (&["saxattr", "nosuid"], "nosuid,saxattr"),
        ] {
            assert_eq!(MountWords::parse(words.iter().copied()).unwrap().to_string(), shown);
        }
        let words = MountWords::parse(["noexec"]).unwrap().read_only();
        assert_eq!(words.flags(), MountAttrFlags::NOEXEC | MountAttrFlags::RDONLY);
        assert_eq!(words.classic(), MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY);
        assert!(MountWords::parse(["zfsutil"]).unwrap_err().to_string().contains("strictatime"));
    }
}
