//! Options of any mount, whatever its file system: read-only, no devices and so on.

use graphdriver_sys::mount_api::MountAttrFlags;
use nix::mount::MsFlags;

/// Read-only, no devices and so on, for either way of mounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) flags: MountAttrFlags,
    pub(crate) classic: MsFlags,
}

/// A word as `mount(8)` spells it.
struct Word {
    text: &'static str,
    /// What it decides: of two words with the same subject only one can hold.
    subject: &'static str,
    flags: MountAttrFlags,
    classic: MsFlags,
}

const fn word(text: &'static str, subject: &'static str, flags: MountAttrFlags, classic: MsFlags) -> Word {
    Word { text, subject, flags, classic }
}

/// Says what is so anyway.
const fn default(text: &'static str, subject: &'static str) -> Word {
    word(text, subject, MountAttrFlags::empty(), MsFlags::empty())
}

const WORDS: [Word; 14] = [
    word("ro", "write access", MountAttrFlags::RDONLY, MsFlags::MS_RDONLY),
    default("rw", "write access"),
    word("nosuid", "set-id bits", MountAttrFlags::NOSUID, MsFlags::MS_NOSUID),
    default("suid", "set-id bits"),
    word("nodev", "devices", MountAttrFlags::NODEV, MsFlags::MS_NODEV),
    default("dev", "devices"),
    word("noexec", "execution", MountAttrFlags::NOEXEC, MsFlags::MS_NOEXEC),
    default("exec", "execution"),
    word("noatime", "access times", MountAttrFlags::NOATIME, MsFlags::MS_NOATIME),
    word("strictatime", "access times", MountAttrFlags::STRICTATIME, MsFlags::MS_STRICTATIME),
    // What the kernel does when nothing is said.
    word("relatime", "access times", MountAttrFlags::empty(), MsFlags::MS_RELATIME),
    default("atime", "access times"),
    word("nodiratime", "access times of directories", MountAttrFlags::NODIRATIME, MsFlags::MS_NODIRATIME),
    default("diratime", "access times of directories"),
];

impl Attributes {
    pub(crate) const NONE: Self = Self { flags: MountAttrFlags::empty(), classic: MsFlags::empty() };
    pub(crate) const READ_ONLY: Self = Self { flags: MountAttrFlags::RDONLY, classic: MsFlags::MS_RDONLY };

    /// What `text` sets; `None` for a word that is not one of these.
    pub(crate) fn of_word(text: &str) -> Option<Self> {
        let word = find(text)?;
        Some(Self { flags: word.flags, classic: word.classic })
    }

    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { flags: self.flags | other.flags, classic: self.classic | other.classic }
    }

    pub(crate) fn is_read_only(self) -> bool {
        self.flags.contains(MountAttrFlags::RDONLY)
    }
}

/// What the word decides; `None` for a word that is not one of these.
pub(super) fn subject(text: &str) -> Option<&'static str> {
    find(text).map(|word| word.subject)
}

/// All words that are known.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|word| word.text)
}

fn find(text: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.text == text)
}
