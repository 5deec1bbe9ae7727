//! Layer archives, well-formed and not, in a few words.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use tar::{EntryType, Header};

/// The time that entries have unless told otherwise: 2020-01-02 03:04:05 UTC.
pub const MTIME: u64 = 1_577_934_245;

/// An archive being written.
#[derive(Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

/// One entry, to be completed by its setters. It belongs to whoever runs the suite, unless told otherwise: the one owner that every user can give a file.
pub struct Entry {
    name: Vec<u8>,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    device: (u32, u32),
    link: Vec<u8>,
    contents: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(name: impl AsRef<Path>, kind: EntryType, mode: u32) -> Self {
        Self {
            name: name.as_ref().as_os_str().as_bytes().to_owned(),
            kind,
            mode,
            owner: (geteuid().as_raw().into(), getegid().as_raw().into()),
            device: (0, 0),
            link: Vec::new(),
            contents: Vec::new(),
            xattrs: Vec::new(),
        }
    }

    pub fn file(name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Self {
        Self { contents: contents.as_ref().to_owned(), ..Self::new(name, EntryType::Regular, 0o644) }
    }

    pub fn dir(name: impl AsRef<Path>) -> Self {
        Self::new(name, EntryType::Directory, 0o755)
    }

    pub fn symlink(name: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::new(name, EntryType::Symlink, 0o777).to(target)
    }

    pub fn hard_link(name: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::new(name, EntryType::Link, 0o644).to(target)
    }

    pub fn fifo(name: impl AsRef<Path>) -> Self {
        Self::new(name, EntryType::Fifo, 0o640)
    }

    pub fn char_device(name: impl AsRef<Path>, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(name, EntryType::Char, 0o660) }
    }

    pub fn block_device(name: impl AsRef<Path>, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(name, EntryType::Block, 0o660) }
    }

    /// The mark that `path` of the layers below is gone.
    pub fn whiteout(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let mut name = b".wh.".to_vec();
        name.extend_from_slice(path.file_name().expect("a path with a last component").as_bytes());
        Self::file(path.with_file_name(std::ffi::OsStr::from_bytes(&name)), "")
    }

    /// The mark that nothing of the layers below shows through the directory `path`.
    pub fn opaque(path: impl AsRef<Path>) -> Self {
        Self::file(path.as_ref().join(".wh..wh..opq"), "")
    }

    fn to(mut self, target: impl AsRef<Path>) -> Self {
        target.as_ref().as_os_str().as_bytes().clone_into(&mut self.link);
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.push((format!("SCHILY.xattr.{name}"), value.to_owned()));
        self
    }
}

impl Tarball {
    /// An archive of these entries.
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
        let mut tarball = Self::default();
        for entry in entries {
            tarball.push(&entry);
        }
        tarball.finish()
    }

    pub fn push(&mut self, entry: &Entry) {
        if !entry.xattrs.is_empty() {
            let mut builder = tar::Builder::new(Vec::new());
            let records = entry.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            builder.append_pax_extensions(records).expect("writes to memory");
            let bytes = builder.into_inner().expect("writes to memory");
            self.bytes.extend_from_slice(&bytes[..bytes.len() - 2 * BLOCK]);
        }
        self.bytes.extend_from_slice(header(entry).as_bytes());
        self.bytes.extend_from_slice(&entry.contents);
        let rest = entry.contents.len() % BLOCK;
        if rest != 0 {
            self.bytes.resize(self.bytes.len() + BLOCK - rest, 0);
        }
    }

    /// Ends the archive with its two empty blocks.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.write_all(&[0; 2 * BLOCK]).expect("writes to memory");
        self.bytes
    }
}

const BLOCK: usize = 512;

/// Written byte by byte, since the library refuses the names that hostile archives have.
fn header(entry: &Entry) -> Header {
    let mut header = Header::new_gnu();
    let fields = header.as_old_mut();
    assert!(
        entry.name.len() < 100 && entry.link.len() < 100,
        "long names are the archive crate's own tests' matter"
    );
    fields.name[..entry.name.len()].copy_from_slice(&entry.name);
    fields.linkname[..entry.link.len()].copy_from_slice(&entry.link);
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(MTIME);
    header.set_size(entry.contents.len() as u64);
    header.set_device_major(entry.device.0).expect("a header that has the field");
    header.set_device_minor(entry.device.1).expect("a header that has the field");
    header.set_cksum();
    header
}
