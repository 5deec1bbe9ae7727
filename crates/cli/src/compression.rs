//! How an archive is compressed, told by its first bytes, and the decoder for it.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use graphdriver::archive::{Error, ErrorKind};

/// Longest magic number, in bytes.
const MAGIC_LEN: usize = 6;

/// Largest window of a zstd frame that is accepted, as a power of two: 128 MiB, what the zstd program accepts. A frame may ask for more than any machine has.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Bytes that are read from the compressed file at a time.
const INPUT_BUFFER: usize = 128 << 10;

/// The forms that layers come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not compressed, or nothing that we know.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames, skippable ones included.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream say.
    ///
    /// # Errors
    /// The name of a compression that is known but not supported.
    fn of(magic: &[u8]) -> Result<Self, &'static str> {
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("xz"),
            _ => Ok(Self::None),
        }
    }
}

/// Finds out how `source` is compressed.
///
/// # Errors
/// What reading gives; an [`Error`] of the kind `InvalidArchive` inside for bzip2 and xz.
pub(crate) fn sniff<R: Read>(mut source: R) -> io::Result<(Compression, impl BufRead + use<R>)> {
    let mut magic = Vec::with_capacity(MAGIC_LEN);
    source.by_ref().take(MAGIC_LEN as u64).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic).map_err(|name| {
        invalid("detect compression")
            .detail(format!("{name} is not supported; layers are plain, gzip or zstd"))
    })?;
    Ok((compression, Cursor::new(magic).chain(BufReader::with_capacity(INPUT_BUFFER, source))))
}

/// The uncompressed bytes of `source`.
///
/// # Errors
/// When no decoder can be had. Reading gives an [`Error`] of the kind `InvalidArchive` inside when `source` is corrupt or truncated.
pub(crate) fn decode<'a>(
    compression: Compression,
    source: impl BufRead + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => {
            Box::new(Decoding { decoder: MultiGzDecoder::new(source), operation: "decompress gzip" })
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(Decoding { decoder, operation: "decompress zstd" })
        }
    })
}

/// Tells what a decoder finds wrong from what the file below it fails with.
struct Decoding<D> {
    decoder: D,
    operation: &'static str,
}

impl<D: Read> Read for Decoding<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            // A failure of the system has a number, and one of ours is an `Error`; decoders have neither.
            let is_ours = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>);
            let is_of_the_source = error.raw_os_error().is_some() || is_ours;
            if is_of_the_source { error } else { invalid(self.operation).source(error).into() }
        })
    }
}

fn invalid(operation: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArchive, operation)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read(source: &[u8]) -> io::Result<Vec<u8>> {
        let (compression, source) = sniff(source)?;
        let mut data = Vec::new();
        decode(compression, source)?.read_to_end(&mut data)?;
        Ok(data)
    }

    /// The kind of failure; contents of a test's size are no message.
    fn failure(source: &[u8]) -> Option<ErrorKind> {
        let error = read(source).err()?;
        Some(error.get_ref()?.downcast_ref::<Error>()?.kind())
    }

    #[test]
    fn magic() {
        let table: [(&[u8], Result<Compression, &str>); 10] = [
            (b"", Ok(Compression::None)),
            (b"\x1f", Ok(Compression::None)),
            (b"\x1f\x8b\x08", Ok(Compression::Gzip)),
            (b"\x28\xb5\x2f\xfd", Ok(Compression::Zstd)),
            (b"\x50\x2a\x4d\x18", Ok(Compression::Zstd)),
            (b"\x5f\x2a\x4d\x18", Ok(Compression::Zstd)),
            (b"BZh91AY", Err("bzip2")),
            (b"BZhello", Ok(Compression::None)),
            (b"\xfd7zXZ\0", Err("xz")),
            (b"etc/pa", Ok(Compression::None)),
        ];
        for (magic, expected) in table {
            assert_eq!(Compression::of(magic), expected, "{magic:?}");
        }
    }

    #[test]
    fn plain_gzip_and_zstd_of_one_and_of_several_parts() {
        let (one, two) = (vec![7; 300_000], b"tail".to_vec());
        let whole = [one.clone(), two.clone()].concat();
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        for source in [
            whole.clone(),
            gzip(&whole),
            zstd(&whole),
            [gzip(&one), gzip(&two)].concat(),
            [zstd(&one), skippable.clone(), zstd(&two)].concat(),
            [skippable, zstd(&whole)].concat(),
        ] {
            assert!(read(&source).unwrap() == whole);
        }
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"abc").unwrap(), b"abc");
    }

    #[test]
    fn damage_is_an_invalid_archive() {
        let data: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        for mut source in [gzip(&data), zstd(&data)] {
            assert_eq!(failure(&source[..source.len() / 2]), Some(ErrorKind::InvalidArchive));
            let middle = source.len() / 2;
            for byte in &mut source[middle..middle + 64] {
                *byte ^= 0xa5;
            }
            assert_eq!(failure(&source), Some(ErrorKind::InvalidArchive));
        }
        assert_eq!(failure(b"BZh91AY&SY"), Some(ErrorKind::InvalidArchive));
    }

    #[test]
    fn a_window_larger_than_any_layer_needs_is_refused() {
        // Frame header: magic, descriptor without single segment, window descriptor for 1 << 41 bytes; then an empty last block.
        let source = b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00";
        assert_eq!(failure(source), Some(ErrorKind::InvalidArchive));
    }
}
