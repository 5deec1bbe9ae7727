//! Where the members of a tar are, so that they can be read in any order without unpacking them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use graphdriver::{Error, ErrorKind};
use tar::{EntryType, Header};

/// Size of tar's blocks, in bytes.
const BLOCK: u64 = 512;
/// Most members that are looked at; an image has a handful for each layer.
const MAX_MEMBERS: usize = 100_000;
/// Longest extended header (PAX, GNU long name) that is read, in bytes; names of members are short.
const MAX_EXTENSION: u64 = 64 << 10;
/// Most links that are followed from one name.
const MAX_LINKS: usize = 8;

/// The members of a tar by name.
#[derive(Debug)]
pub(super) struct TarIndex {
    file: Arc<File>,
    members: HashMap<String, Member>,
}

/// What a name stands for. Of several members with one name the last counts, as when unpacking.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    File(Section),
    /// The name that it leads to.
    Link(String),
}

/// A file inside the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    /// Bytes.
    pub(super) size: u64,
}

impl TarIndex {
    /// Reads the headers of `file`, which is at `path`, and skips all contents.
    ///
    /// # Errors
    /// `InvalidArchive` for what is no plain tar, or a truncated one; `Io`.
    pub(super) fn read(file: File, path: &Path) -> Result<Self, Error> {
        let size = file.metadata().map_err(|error| Error::io("stat", path, error))?.len();
        let members =
            Headers { file: &file, size, position: 0 }.members().map_err(|defect| match defect {
                Defect::Io(error) => Error::io("read", path, error),
                Defect::Format(what) => {
                    Error::new(ErrorKind::InvalidArchive, "read image").path(path).detail(what)
                }
            })?;
        Ok(Self { file: Arc::new(file), members })
    }

    /// The file that the sections are in.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The file of this name, links followed inside the archive.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(super) fn find(&self, name: &str) -> Result<Section, &'static str> {
        let mut name = resolve("", name).ok_or("leads out of the archive")?;
        for _ in 0..=MAX_LINKS {
            match self.members.get(&name) {
                Some(Member::File(section)) => return Ok(*section),
                Some(Member::Link(target)) => name.clone_from(target),
                None => return Err("is not in the archive"),
            }
        }
        Err("is a link to a link to a link without end")
    }
}

enum Defect {
    Io(io::Error),
    Format(&'static str),
}

impl From<io::Error> for Defect {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Format("the archive is truncated"),
            _ => Self::Io(error),
        }
    }
}

/// Walks from header to header.
struct Headers<'a> {
    file: &'a File,
    size: u64,
    position: u64,
}

/// What extended headers say about the member that follows them.
#[derive(Default)]
struct Extension {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl Headers<'_> {
    fn members(mut self) -> Result<HashMap<String, Member>, Defect> {
        let mut members = HashMap::new();
        let mut extension = Extension::default();
        let mut count = 0;
        while let Some(header) = self.header()? {
            count += 1;
            if count > MAX_MEMBERS {
                return Err(Defect::Format("the archive has more members than any image"));
            }
            let kind = header.entry_type();
            let size = match extension.size {
                _ if has_no_contents(kind) => 0,
                Some(size) if !is_extension(kind) => size,
                _ => header.entry_size()?,
            };
            let section = self.contents(size)?;
            match kind {
                EntryType::GNULongName => extension.name = Some(text(&self.extension(section)?)),
                EntryType::GNULongLink => extension.link = Some(text(&self.extension(section)?)),
                EntryType::XHeader => extension.read_pax(&self.extension(section)?)?,
                EntryType::XGlobalHeader => {}
                _ => {
                    if let Some((name, member)) = std::mem::take(&mut extension).member(&header, section) {
                        members.insert(name, member);
                    }
                }
            }
        }
        Ok(members)
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Defect> {
        if self.position == self.size && self.position != 0 {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.file.read_exact_at(header.as_mut_bytes(), self.position)?;
        self.position += BLOCK;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match header.cksum() {
            Ok(sum) if sum == checksum(&header) => Ok(Some(header)),
            _ if header.as_bytes().starts_with(&[0x1f, 0x8b])
                || header.as_bytes().starts_with(b"\x28\xb5\x2f\xfd") =>
            {
                Err(Defect::Format("the archive is compressed as a whole; decompress it first"))
            }
            _ => Err(Defect::Format("a header's checksum is wrong: not a tar, or damaged")),
        }
    }

    /// The `size` bytes that follow the header just read; moves on behind them.
    fn contents(&mut self, size: u64) -> Result<Section, Defect> {
        let section = Section { offset: self.position, size };
        let end = self.position.checked_add(size).filter(|end| *end <= self.size);
        let end = end.ok_or(Defect::Format("the archive is truncated"))?;
        // The last member may lack its padding.
        self.position = end.next_multiple_of(BLOCK).min(self.size);
        Ok(section)
    }

    fn extension(&self, section: Section) -> Result<Vec<u8>, Defect> {
        if section.size > MAX_EXTENSION {
            return Err(Defect::Format("a name is longer than any member of an image has"));
        }
        let mut contents = vec![0; usize::try_from(section.size).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut contents, section.offset)?;
        Ok(contents)
    }
}

impl Extension {
    fn read_pax(&mut self, contents: &[u8]) -> Result<(), Defect> {
        for record in tar::PaxExtensions::new(contents) {
            let record = record.map_err(|_| Defect::Format("an extended header is malformed"))?;
            match record.key_bytes() {
                b"path" => self.name = Some(text(record.value_bytes())),
                b"linkpath" => self.link = Some(text(record.value_bytes())),
                b"size" => {
                    let size = record.value().ok().and_then(|value| value.parse().ok());
                    self.size =
                        Some(size.ok_or(Defect::Format("an extended header has a size that is no number"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Name and kind of a member; `None` for directories, devices, and names that lead out of the archive.
    fn member(self, header: &Header, section: Section) -> Option<(String, Member)> {
        let name = resolve("", &self.name.unwrap_or_else(|| text(&header.path_bytes())))?;
        let link = || self.link.or_else(|| Some(text(&header.link_name_bytes()?)));
        let member = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => Member::File(section),
            EntryType::Symlink => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                Member::Link(resolve(directory, &link()?)?)
            }
            EntryType::Link => Member::Link(resolve("", &link()?)?),
            _ => return None,
        };
        Some((name, member))
    }
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
    )
}

/// Some programs write a size for these all the same.
fn has_no_contents(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Directory | Char | Block | Fifo)
}

/// A field of a header up to its first NUL. Names that are not UTF-8 are nothing that a manifest can ask for.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The clean form of `name` as seen from `directory`; `None` when it leads above the top.
fn resolve(directory: &str, name: &str) -> Option<String> {
    let directory = if name.starts_with('/') { "" } else { directory };
    let mut components: Vec<&str> = Vec::new();
    for component in directory.split('/').chain(name.split('/')) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    Some(components.join("/"))
}

/// The sum of a header's bytes with the checksum field as blanks.
fn checksum(header: &Header) -> u32 {
    let bytes = header.as_bytes();
    let field = 148..156;
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&bytes[..field.start]) + 8 * u32::from(b' ') + sum(&bytes[field.end..])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn index(tar: &[u8]) -> Result<TarIndex, Error> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(tar).unwrap();
        TarIndex::read(file, Path::new("x.tar"))
    }

    fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        if link.is_empty() {
            builder.append_data(&mut header, name, data).unwrap();
        } else {
            builder.append_link(&mut header, name, link).unwrap();
        }
    }

    fn contents(index: &TarIndex, name: &str) -> Result<Vec<u8>, &'static str> {
        let section = index.find(name)?;
        let mut data = vec![0; usize::try_from(section.size).unwrap()];
        index.file().read_exact_at(&mut data, section.offset).unwrap();
        Ok(data)
    }

    #[test]
    fn finds_files_by_name_and_through_links() {
        let long = format!("{}/layer.tar", "d".repeat(180));
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "./manifest.json", EntryType::Regular, "", b"old");
        append(&mut builder, "a", EntryType::Directory, "", b"");
        append(&mut builder, "a/layer.tar", EntryType::Regular, "", &[7; 1000]);
        append(&mut builder, "b/layer.tar", EntryType::Symlink, "../a/layer.tar", b"");
        append(&mut builder, "c.tar", EntryType::Link, "b/layer.tar", b"");
        append(&mut builder, &long, EntryType::Regular, "", b"long");
        append(&mut builder, "manifest.json", EntryType::Regular, "", b"new");
        let index = index(&builder.into_inner().unwrap()).unwrap();
        for name in ["a/layer.tar", "/a/./layer.tar", "b/layer.tar", "c.tar", "b/../a/layer.tar"] {
            assert_eq!(contents(&index, name).unwrap(), [7; 1000], "{name}");
        }
        assert_eq!(contents(&index, "manifest.json").unwrap(), b"new");
        assert_eq!(contents(&index, &long).unwrap(), b"long");
        assert!(index.find("a").is_err());
        assert!(index.find("../etc/passwd").is_err());
    }

    #[test]
    fn pax_headers_name_and_size_members() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", b"from/pax".as_slice()), ("size", b"5")]).unwrap();
        append(&mut builder, "from-header", EntryType::Regular, "", b"12345");
        let index = index(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(contents(&index, "from/pax").unwrap(), b"12345");
        assert!(index.find("from-header").is_err());
    }

    #[test]
    fn links_cannot_leave_or_loop() {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "out", EntryType::Symlink, "../../etc/passwd", b"");
        append(&mut builder, "absolute", EntryType::Symlink, "/etc/passwd", b"");
        append(&mut builder, "loop", EntryType::Symlink, "loop", b"");
        let index = index(&builder.into_inner().unwrap()).unwrap();
        for name in ["out", "absolute", "loop"] {
            assert!(index.find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn damage_is_found() {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "file", EntryType::Regular, "", &[7; 2000]);
        let whole = builder.into_inner().unwrap();
        let mut flipped = whole.clone();
        flipped[3] ^= 1;
        let mut endless = Header::new_gnu();
        endless.set_path("file").unwrap();
        endless.set_size(u64::MAX >> 1);
        endless.set_cksum();
        let table: [(&[u8], &str); 6] = [
            (b"", "truncated"),
            (&whole[..700], "truncated"),
            (&whole[..100], "truncated"),
            (&flipped, "checksum"),
            (endless.as_bytes(), "truncated"),
            (&[b"\x1f\x8b".as_slice(), &[1; 1000]].concat(), "decompress"),
        ];
        for (tar, expected) in table {
            let error = index(tar).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArchive);
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(
            index(&whole[..512 + 2000]).is_ok(),
            "an archive without its end marks is read by others too"
        );
    }

    #[test]
    fn endless_names_are_not_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_path("././@LongLink").unwrap();
        header.set_size(1 << 20);
        header.set_cksum();
        let tar = [header.as_bytes().as_slice(), &vec![b'a'; 1 << 20]].concat();
        assert!(index(&tar).unwrap_err().to_string().contains("longer"));
    }
}
