//! Telling contents apart without comparing each with every other.

use std::fs::File;
use std::io::{self, Read};

use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha2::{Digest, Sha256};

use super::DedupHash;

/// How much is read at once, in bytes.
const BLOCK: usize = 128 << 10;

/// What equal contents have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fingerprint {
    None,
    Crc(u64),
    Sha256([u8; 32]),
}

/// Reads the file from its start.
pub(super) fn fingerprint(file: &File, hash: DedupHash) -> io::Result<Fingerprint> {
    match hash {
        DedupHash::Size => Ok(Fingerprint::None),
        DedupHash::Crc => {
            let mut crc = Crc::new(CrcAlgorithm::Crc64Xz);
            each_block(file, |block| crc.update(block))?;
            Ok(Fingerprint::Crc(crc.finalize()))
        }
        DedupHash::Sha256 => {
            let mut sha256 = Sha256::new();
            each_block(file, |block| sha256.update(block))?;
            Ok(Fingerprint::Sha256(sha256.finalize().into()))
        }
    }
}

fn each_block(mut file: &File, mut block: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => block(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn known_answers() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"123456789").unwrap();
        let mut of = |hash| {
            file.rewind().unwrap();
            fingerprint(&file, hash).unwrap()
        };
        assert_eq!(of(DedupHash::Size), Fingerprint::None);
        assert_eq!(of(DedupHash::Crc), Fingerprint::Crc(0x995D_C9BB_DF19_39FA));
        let Fingerprint::Sha256(digest) = of(DedupHash::Sha256) else { panic!() };
        assert_eq!(digest[..4], [0x15, 0xe2, 0xb0, 0xd3]);
    }
}
