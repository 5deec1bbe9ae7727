//! Contents that look random and are the same in every run.

use std::fs;
use std::path::Path;

/// `length` bytes that follow from `seed` (splitmix64).
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Writes `count` files of 64 bytes, a hundred to a directory: `directory-0/file-0`, ...; existing ones are overwritten.
pub fn write_files(root: &Path, count: u64, seed: u64) {
    for index in 0..count {
        let dir = root.join(format!("directory-{}", index - index % 100));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file-{index}")), bytes(seed + index, 64)).unwrap();
    }
}

/// Checks that the files are as [`write_files`] wrote them.
pub fn check_files(root: &Path, count: u64, seed: u64) {
    for index in 0..count {
        let path = root.join(format!("directory-{}/file-{index}", index - index % 100));
        assert_eq!(fs::read(&path).unwrap(), bytes(seed + index, 64), "{}", path.display());
    }
}
