//! The extended attribute `user.containers.override_stat`: owner, mode and type of a file on a file system that cannot keep them.
//!
//! containers/storage writes it with its option `force_mask`, fuse-overlayfs reads it. The value is `uid:gid:mode[:type]`: decimal ids, octal
//! mode, and a type that is `file`, `dir`, `symlink`, `pipe`, `socket`, `block-MAJOR-MINOR` or `char-MAJOR-MINOR`. No I/O.

use std::ffi::CStr;
use std::fmt;

use crate::id_map::Owner;

/// The attribute's name.
#[doc(alias = "ContainersOverrideXattr")]
pub const XATTR: &CStr = c"user.containers.override_stat";

/// What a file is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "idtools.Stat")]
pub struct OverrideStat {
    /// The owner.
    pub owner: Owner,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// The type; values of older versions have none, then the file is what it is on disk.
    pub file_type: Option<OverrideType>,
}

/// The type of file that an [`OverrideStat`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its target is the file's content.
    Symlink,
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    BlockDevice {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
    /// A character device.
    CharDevice {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
}

/// What is wrong with a value of the attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer than three parts.
    #[error("the number of parts in user.containers.override_stat is less than 3")]
    Parts,
    /// The user id is not a number of 32 bits.
    #[error("failed to parse UID")]
    Uid,
    /// The group id is not a number of 32 bits.
    #[error("failed to parse GID")]
    Gid,
    /// The mode is not an octal number.
    #[error("failed to parse mode")]
    Mode,
    /// The type is none of those known, or a device's numbers are missing.
    #[error("invalid file type")]
    FileType,
}

impl OverrideStat {
    /// Reads a value of the attribute. What follows the type is ignored, as the peers do.
    ///
    /// # Errors
    /// Names the first part that is missing or malformed.
    #[doc(alias = "parseOverrideXattr")]
    pub fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let mut parts =
            value.split(|byte| *byte == b':').map(|part| std::str::from_utf8(part).unwrap_or_default());
        let mut next = || parts.next().ok_or(ParseError::Parts);
        let (uid, gid, mode) = (next()?, next()?, next()?);
        let number = |text: &str, radix, error| {
            // `from_str_radix` takes a sign, the format has none.
            let digits = Some(text).filter(|text| !text.starts_with('+'));
            digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()).ok_or(error)
        };
        let owner = Owner { uid: number(uid, 10, ParseError::Uid)?, gid: number(gid, 10, ParseError::Gid)? };
        let mode = number(mode, 8, ParseError::Mode)? & 0o7777;
        let file_type = parts.next().map(parse_type).transpose()?;
        Ok(Self { owner, mode, file_type })
    }
}

impl fmt::Display for OverrideStat {
    /// The attribute's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:04o}", self.owner, self.mode & 0o7777)?;
        match self.file_type {
            None => Ok(()),
            Some(OverrideType::File) => f.write_str(":file"),
            Some(OverrideType::Directory) => f.write_str(":dir"),
            Some(OverrideType::Symlink) => f.write_str(":symlink"),
            Some(OverrideType::Fifo) => f.write_str(":pipe"),
            Some(OverrideType::Socket) => f.write_str(":socket"),
            Some(OverrideType::BlockDevice { major, minor }) => write!(f, ":block-{major}-{minor}"),
            Some(OverrideType::CharDevice { major, minor }) => write!(f, ":char-{major}-{minor}"),
        }
    }
}

fn parse_type(text: &str) -> Result<OverrideType, ParseError> {
    // Later versions may append to a type.
    let plain = [
        ("file", OverrideType::File),
        ("dir", OverrideType::Directory),
        ("symlink", OverrideType::Symlink),
        ("pipe", OverrideType::Fifo),
        ("socket", OverrideType::Socket),
    ];
    if let Some((_, file_type)) = plain.into_iter().find(|(name, _)| text.starts_with(name)) {
        return Ok(file_type);
    }
    let mut parts = text.split('-');
    let name = parts.next();
    let mut number = || parts.next().and_then(|digits| digits.parse().ok()).ok_or(ParseError::FileType);
    match name {
        Some("block") => Ok(OverrideType::BlockDevice { major: number()?, minor: number()? }),
        Some("char") => Ok(OverrideType::CharDevice { major: number()?, minor: number()? }),
        _ => Err(ParseError::FileType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_peers_are_read() {
        let stat =
            |mode, file_type| Ok(OverrideStat { owner: Owner { uid: 1000, gid: 1001 }, mode, file_type });
        let block = OverrideType::BlockDevice { major: 5, minor: 6 };
        let char = OverrideType::CharDevice { major: 10, minor: 11 };
        for (value, expected) in [
            ("1000:1001:0755", stat(0o755, None)),
            ("1000:1001:0755:file", stat(0o755, Some(OverrideType::File))),
            ("1000:1001:7755:dir", stat(0o7755, Some(OverrideType::Directory))),
            ("1000:1001:0777:symlink", stat(0o777, Some(OverrideType::Symlink))),
            ("1000:1001:0600:pipe", stat(0o600, Some(OverrideType::Fifo))),
            ("1000:1001:0600:socket", stat(0o600, Some(OverrideType::Socket))),
            ("1000:1001:0600:block-5-6", stat(0o600, Some(block))),
            ("1000:1001:0600:block-5-6-more", stat(0o600, Some(block))),
            ("1000:1001:0600:char-10-11", stat(0o600, Some(char))),
            ("1000:1001:0600:file:more", stat(0o600, Some(OverrideType::File))),
            ("", Err(ParseError::Parts)),
            ("1000:1001", Err(ParseError::Parts)),
            ("x:1001:0600", Err(ParseError::Uid)),
            ("+1:1001:0600", Err(ParseError::Uid)),
            ("4294967296:1001:0600", Err(ParseError::Uid)),
            ("1000::0600", Err(ParseError::Gid)),
            ("1000:1001:0689", Err(ParseError::Mode)),
            ("1000:1001:0600:block", Err(ParseError::FileType)),
            ("1000:1001:0600:block-5", Err(ParseError::FileType)),
            ("1000:1001:0600:block-a-5", Err(ParseError::FileType)),
            ("1000:1001:0600:door", Err(ParseError::FileType)),
        ] {
            assert_eq!(OverrideStat::parse(value.as_bytes()), expected, "{value:?}");
        }
        assert_eq!(OverrideStat::parse(b"\xff:0:0"), Err(ParseError::Uid));
    }

    #[test]
    fn what_is_written_is_what_the_peers_write() {
        for value in ["0:0:0755:dir", "1012:1022:4755:file", "1006:1017:0600:char-1-3", "1:2:0000:block-8-0"]
        {
            assert_eq!(OverrideStat::parse(value.as_bytes()).unwrap().to_string(), value);
        }
    }
}
