//! SHA-256 digests of what is read, in the form that image formats write them.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use graphdriver::{Applied, Error, ErrorKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; as text `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of the archive that was unpacked.
    ///
    /// # Errors
    /// `Io` when it was not asked for.
    pub(crate) fn of_archive(applied: &Applied) -> Result<Self, Error> {
        let digest = applied.archive.map(|archive| Self(archive.sha256));
        digest.ok_or_else(|| {
            Error::new(ErrorKind::Io, "apply").detail("the driver does not tell the archive's digest")
        })
    }

    /// The digits alone.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// As many digits as people need to tell digests apart.
    pub(crate) fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }

    /// The digest whose digits are `text`.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        // The image formats allow lower case only; two spellings of one digest would be two names for one layer.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let defect = match text.split_once(':') {
            Some(("sha256", digits)) => match Self::from_hex(digits) {
                Some(digest) => return Ok(digest),
                None => "is not 64 lower-case hexadecimal digits after sha256:".to_owned(),
            },
            Some((algorithm, _)) => format!("is of the algorithm {algorithm:?}; only sha256 is known"),
            None => "is no digest".to_owned(),
        };
        Err(Error::new(ErrorKind::InvalidArchive, "parse digest").detail(format!("{text:?} {defect}")))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| de::Error::custom(error.to_string()))
    }
}

/// Hashes and counts what is read through it.
pub(crate) struct HashingReader<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// The digest and number of the bytes read so far.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest(self.hash.finalize().into()), self.bytes)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_form() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), format!("sha256:{EMPTY}"));
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_other_texts() {
        let upper = format!("sha256:{}", EMPTY.to_uppercase());
        let long = format!("sha256:{EMPTY}00");
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:zz",
            "md5:abc",
            "sha512:00",
            EMPTY,
            "sha256:../../etc/passwd",
            &upper,
            &long,
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().kind(), ErrorKind::InvalidArchive, "{text:?}");
        }
    }

    #[test]
    fn hashes_what_is_read() {
        let mut reader = HashingReader::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), (Digest::of(b"abc"), 3));
    }
}
