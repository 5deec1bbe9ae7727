//! The file mode creation mask, read without changing it.

use std::fs;

use nix::sys::stat::{self, Mode};

/// The file mode creation mask that the calling thread's new files get.
///
/// Reads `/proc/thread-self/status` (the `Umask` line, Linux 4.7), so nothing changes. Only where that is not to be
/// had, the mask is set to 077 and back by [umask(2)](https://man7.org/linux/man-pages/man2/umask.2.html): a file that
/// another thread creates in between gets fewer permissions than it should, never more.
#[doc(alias = "umask")]
pub fn current() -> Mode {
    fs::read_to_string("/proc/thread-self/status")
        .ok()
        .and_then(|status| parse(&status))
        .unwrap_or_else(set_and_restore)
}

fn parse(status: &str) -> Option<Mode> {
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    Mode::from_bits(u32::from_str_radix(value.trim(), 8).ok()?)
}

fn set_and_restore() -> Mode {
    let mask = stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
    stat::umask(mask);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let table = [
            ("Name:\tx\nUmask:\t0022\nState:\tR\n", Some(0o022)),
            ("Umask:\t0000\n", Some(0)),
            ("Umask:\t0777", Some(0o777)),
            ("Umask:\t0888\n", None),
            ("Umask:\n", None),
            ("Name:\tUmask: 0022\n", None),
            ("", None),
        ];
        for (status, expected) in table {
            assert_eq!(parse(status), expected.map(Mode::from_bits_truncate), "{status:?}");
        }
    }

    #[test]
    fn both_ways_agree_and_nothing_changes() {
        let read = current();
        assert_eq!(set_and_restore(), read);
        assert_eq!(current(), read);
    }
}
