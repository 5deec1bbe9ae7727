//! The reader on streams made by the `tar` crate and by hand.

use super::super::pax::push_record;
use super::*;

type Records<'a> = &'a [(&'a str, &'a [u8])];

/// Gives one byte at a time, and is interrupted before each.
struct Slow<'a> {
    bytes: &'a [u8],
    interrupted: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let buffer = &mut buffer[..1];
        self.bytes.read(buffer)
    }
}

/// All entries with their data.
fn read(source: &mut dyn Read) -> Result<Vec<(Entry, Vec<u8>)>> {
    let starved = || Err(Error::new(ErrorKind::Io, "take buffer"));
    let mut reader = Reader::new(source, Pool::new(1), &starved);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        while let Some(part) = reader.data(7)? {
            data.extend_from_slice(&part);
        }
        entries.push((entry, data));
    }
    reader.drain()?;
    Ok(entries)
}

fn names(archive: &[u8]) -> Result<Vec<String>> {
    let entries = read(&mut &archive[..])?;
    Ok(entries.into_iter().map(|(entry, _)| String::from_utf8(entry.name).unwrap()).collect())
}

fn header(typeflag: u8, name: &str, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(size as u64);
    header.as_old_mut().linkflag = [typeflag];
    header.set_cksum();
    header
}

fn push(archive: &mut Vec<u8>, header: &tar::Header, data: &[u8]) {
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
}

fn push_pax(archive: &mut Vec<u8>, typeflag: u8, records: Records<'_>) {
    let mut data = Vec::new();
    for (key, value) in records {
        push_record(&mut data, key.as_bytes(), value);
    }
    push(archive, &header(typeflag, "pax", data.len()), &data);
}

fn end(archive: &mut Vec<u8>) {
    archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
}

/// PAX, GNU long name, plain and large entries.
fn sample() -> Vec<u8> {
    let mut archive = Vec::new();
    push_pax(&mut archive, b'g', &[("comment", b"ignored"), ("path", b"ignored")]);
    push(&mut archive, &header(b'0', "plain", 3), b"abc");
    push_pax(&mut archive, b'x', &[("path", b"from-pax"), ("size", b"2"), ("mtime", b"1.25")]);
    push(&mut archive, &header(b'0', "short", 0), b"xy");
    let long = "d/".repeat(100) + "file";
    push(&mut archive, &header(b'L', "././@LongLink", long.len() + 1), &[long.as_bytes(), b"\0"].concat());
    push(&mut archive, &header(b'7', "cut", 600), &[b'z'; 600]);
    push(&mut archive, &header(b'2', "link", 0), b"");
    end(&mut archive);
    archive
}

#[test]
fn reads_what_extension_headers_say() {
    let archive = sample();
    let entries = read(&mut &archive[..]).unwrap();
    let found: Vec<_> =
        entries.iter().map(|(entry, data)| (entry.name.len(), entry.kind, data.len())).collect();
    assert_eq!(
        found,
        [
            (5, EntryKind::Regular, 3),
            (8, EntryKind::Regular, 2),
            (204, EntryKind::Regular, 600),
            (4, EntryKind::Symlink, 0)
        ]
    );
    assert_eq!(entries[1].0.mtime, Timestamp { seconds: 1, nanoseconds: 250_000_000 });
    assert_eq!((entries[0].1.as_slice(), entries[1].1.as_slice()), (&b"abc"[..], &b"xy"[..]));
}

#[test]
fn short_reads_and_interrupts_change_nothing() {
    let archive = sample();
    let slow = read(&mut Slow { bytes: &archive, interrupted: false }).unwrap();
    let fast = read(&mut &archive[..]).unwrap();
    assert_eq!(format!("{slow:?}"), format!("{fast:?}"));
}

#[test]
fn every_truncation_is_told_and_an_empty_stream_is_empty() {
    let archive = sample();
    assert!(names(&[]).unwrap().is_empty());
    for bytes in (1..archive.len() - BLOCK_BYTES).rev() {
        let complete = bytes >= archive.len() - BLOCK_BYTES;
        let result = read(&mut &archive[..bytes]);
        assert_eq!(result.is_ok(), complete, "{bytes} bytes");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArchive, "{bytes} bytes");
    }
    assert_eq!(
        names(&archive[..archive.len() - BLOCK_BYTES]).unwrap().len(),
        4,
        "one zero block ends an archive"
    );
}

#[test]
fn what_follows_the_end_is_read_but_not_looked_at() {
    let mut archive = sample();
    archive.extend_from_slice(&vec![b'?'; 3 * BUFFER_BYTES + 1]);
    let mut source = &archive[..];
    assert_eq!(read(&mut source).unwrap().len(), 4);
    assert!(source.is_empty());
}

#[test]
fn junk_is_told_with_its_place() {
    let mut archive = sample();
    archive[BLOCK_BYTES * 2..][..4].copy_from_slice(b"junk");
    let error = read(&mut &archive[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArchive);
    assert!(error.to_string().contains("at byte 1024: not a tar header"), "{error}");
    let mut lone = vec![0; BLOCK_BYTES];
    lone.extend_from_slice(&sample());
    assert!(read(&mut &lone[..]).unwrap_err().to_string().contains("zero block"));
    let mut unknown = Vec::new();
    push(&mut unknown, &header(b'V', "label", 0), b"");
    assert!(read(&mut &unknown[..]).unwrap_err().to_string().contains("unknown type 'V'"));
}

#[test]
fn sizes_are_bounded() {
    let cases: [(Records<'_>, &str); 3] = [
        (&[("size", b"9223372036854775808")], "bytes"),
        (&[("uid", b"4294967295")], "user id"),
        (&[("gid", b"-2147483649")], "group id"),
    ];
    for (records, message) in cases {
        let mut archive = Vec::new();
        push_pax(&mut archive, b'x', records);
        push(&mut archive, &header(b'0', "name", 0), b"");
        let error = read(&mut &archive[..]).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArchive);
    }
    let mut archive = Vec::new();
    push(&mut archive, &header(b'x', "pax", (1 << 20) + 1), b"");
    assert!(read(&mut &archive[..]).unwrap_err().to_string().contains("1048577 bytes"));
}

#[test]
fn types_without_data_have_none_whatever_their_size() {
    for typeflag in *b"123456" {
        let mut archive = Vec::new();
        push(&mut archive, &header(typeflag, "odd", 5), b"");
        push(&mut archive, &header(b'0', "next", 0), b"");
        end(&mut archive);
        assert_eq!(names(&archive).unwrap(), ["odd", "next"]);
    }
    let mut archive = Vec::new();
    push(&mut archive, &header(0, "old-dir/", 0), b"");
    end(&mut archive);
    assert_eq!(read(&mut &archive[..]).unwrap()[0].0.kind, EntryKind::Directory);
}

/// The data of a sparse file goes where its map says.
fn parts(entry: &Entry) -> Vec<(u64, u64)> {
    entry.sparse.as_ref().unwrap().segments().iter().map(|part| (part.offset, part.bytes)).collect()
}

#[test]
fn pax_sparse_files_have_maps() {
    let versions: [(Records<'_>, &[u8]); 3] = [
        (
            &[
                ("GNU.sparse.size", b"20"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"2"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"20"),
                ("GNU.sparse.numbytes", b"0"),
                ("path", b"name"),
            ],
            b"abc",
        ),
        (
            &[("GNU.sparse.size", b"20"), ("GNU.sparse.name", b"name"), ("GNU.sparse.map", b"2,3,20,0")],
            b"abc",
        ),
        (
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"name"),
                ("GNU.sparse.realsize", b"20"),
            ],
            &[b"2\n2\n3\n20\n0\n".as_slice(), &[0; 501], b"abc"].concat(),
        ),
    ];
    for (records, data) in versions {
        let mut archive = Vec::new();
        push_pax(&mut archive, b'x', records);
        push(&mut archive, &header(b'0', "other", data.len()), data);
        push(&mut archive, &header(b'0', "next", 0), b"");
        end(&mut archive);
        let entries = read(&mut &archive[..]).unwrap();
        let (entry, data) = &entries[0];
        assert_eq!((entry.name.as_slice(), entry.size, data.as_slice()), (&b"name"[..], 20, &b"abc"[..]));
        assert_eq!(parts(entry), [(2, 3)]);
        assert_eq!(entries[1].0.name, b"next");
    }
}

#[test]
fn a_map_must_match_the_data() {
    for map in ["2,4,20,0", "2,2,20,0", "2,3,21,0", "18,3", "2,3,4,0"] {
        let mut archive = Vec::new();
        push_pax(&mut archive, b'x', &[("GNU.sparse.size", b"20"), ("GNU.sparse.map", map.as_bytes())]);
        push(&mut archive, &header(b'0', "name", 3), b"abc");
        end(&mut archive);
        assert_eq!(read(&mut &archive[..]).unwrap_err().kind(), ErrorKind::InvalidArchive, "{map}");
    }
    let mut archive = Vec::new();
    push_pax(&mut archive, b'x', &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]);
    push(&mut archive, &header(b'0', "name", 512), format!("300\n{}", "1\n".repeat(254)).as_bytes());
    end(&mut archive);
    assert!(read(&mut &archive[..]).unwrap_err().to_string().contains("does not end"));
}

#[test]
fn errors_of_the_source_keep_their_kind() {
    struct Failing(io::ErrorKind);
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }
    for (source, expected) in [
        (io::ErrorKind::InvalidData, ErrorKind::InvalidArchive),
        (io::ErrorKind::UnexpectedEof, ErrorKind::InvalidArchive),
        (io::ErrorKind::BrokenPipe, ErrorKind::Io),
    ] {
        assert_eq!(read(&mut Failing(source)).unwrap_err().kind(), expected);
    }
}
