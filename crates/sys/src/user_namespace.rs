//! User namespaces: whether the calling thread lives in one of its own, and making one.

use std::os::unix::fs::MetadataExt;
use std::{fs, io};

pub use mapped::{CreateError, IdRange, create};

mod mapped;

/// Inode number of the initial user namespace: `PROC_USER_INIT_INO` since Linux 3.8, fixed by linux/nsfs.h.
const INITIAL_INODE: u64 = 0xEFFF_FFFD;

/// Whether the calling thread is in the initial user namespace, where root is root: able to make device files, to mount
/// any file system and to set `trusted.*` attributes.
///
/// The map of user ids (`/proc/thread-self/uid_map`) decides; where it is the full one, the namespace itself is looked
/// at too, since a child namespace may be given all ids. A kernel without user namespaces has the initial one only.
///
/// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
///
/// # Errors
///
/// When `/proc` is not mounted, or may not be read.
#[doc(alias = "RunningInUserNS")]
pub fn in_initial() -> io::Result<bool> {
    let uid_map = match fs::read_to_string("/proc/thread-self/uid_map") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // No such file where /proc is right means that the kernel was built without user namespaces.
            fs::metadata("/proc/thread-self/status")?;
            return Ok(true);
        }
        read => read?,
    };
    if !is_full_identity_map(&uid_map) {
        return Ok(false);
    }
    Ok(fs::metadata("/proc/thread-self/ns/user")?.ino() == INITIAL_INODE)
}

/// Whether the text of a `uid_map` or `gid_map` maps every id to itself, in one line.
///
/// An empty text, the map of a namespace not set up yet, maps nothing.
pub fn is_full_identity_map(text: &str) -> bool {
    let mut lines = text.lines();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    line.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let table = [
            ("         0          0 4294967295\n", true),
            ("0 0 4294967295", true),
            ("", false),
            ("\n", false),
            ("         0       1000          1\n", false),
            ("0 0 4294967294\n", false),
            ("0 1000 1\n1 100000 65536\n", false),
            ("0 0 4294967295\n0 0 1\n", false),
            ("0 0 4294967295 0\n", false),
            ("0 0\n", false),
            ("1 1 4294967295\n", false),
            ("text", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_full_identity_map(text), expected, "{text:?}");
        }
    }

    #[test]
    fn this_process_has_an_answer() {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        let answer = in_initial().unwrap();
        assert!(!answer || is_full_identity_map(&map), "initial, yet with map {map:?}");
    }
}
