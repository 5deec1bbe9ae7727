//! Making archives and unpacking them in three lines.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use graphdriver_archive::{Applied, ApplyOptions, Error, RootDir, WhiteoutMode, apply};
use nix::unistd::{getegid, geteuid};

/// A time that file systems keep: 2024-01-02 03:04:05.
pub(crate) const TIME: u64 = 1_704_164_645;

/// A tar archive that grows by entries. Owners are the calling user's, so that anyone can unpack it.
#[derive(Clone, Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A header for an entry of this type, with the name as it is.
    pub(crate) fn header(typeflag: u8, name: &str) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkflag = [typeflag];
        header.set_mode(if typeflag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(geteuid().as_raw().into());
        header.set_gid(getegid().as_raw().into());
        header.set_mtime(TIME);
        header.set_size(0);
        header
    }

    pub(crate) fn push(mut self, mut header: tar::Header, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        if !data.is_empty() {
            header.set_size(data.len() as u64);
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// PAX records for the next entry, or for all (`g`).
    pub(crate) fn pax(self, typeflag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let length = (bare..bare + 9).find(|length| bare + length.to_string().len() == *length).unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.push(Self::header(typeflag, "pax"), data)
    }

    pub(crate) fn file(self, name: &str, data: impl AsRef<[u8]>) -> Self {
        self.push(Self::header(b'0', name), data)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.push(Self::header(b'5', name), "")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.linking(b'2', name, target)
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.linking(b'1', name, target)
    }

    fn linking(self, typeflag: u8, name: &str, target: &str) -> Self {
        let mut header = Self::header(typeflag, name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.push(header, "")
    }

    /// The archive with its end.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

/// A directory to unpack into, beside a directory that must stay as it is.
pub(crate) struct Dest {
    outside: tempfile::TempDir,
}

impl Dest {
    pub(crate) fn new() -> Self {
        let dest = Self { outside: tempfile::tempdir().unwrap() };
        fs::create_dir(dest.outside.path().join("dest")).unwrap();
        fs::create_dir(dest.outside.path().join("victim")).unwrap();
        fs::write(dest.outside.path().join("victim/hello"), "hello").unwrap();
        dest
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.outside.path().join("dest").join(path)
    }

    pub(crate) fn root(&self) -> RootDir {
        RootDir::open(self.path("")).unwrap()
    }

    pub(crate) fn apply_with(&self, archive: &Archive, options: &ApplyOptions) -> Result<Applied, Error> {
        let result = apply(&self.root(), &mut &archive.bytes()[..], options);
        self.check_victim();
        result
    }

    /// Unpacks with whiteouts executed.
    pub(crate) fn apply(&self, archive: &Archive) -> Result<Applied, Error> {
        self.apply_with(archive, &ApplyOptions::default())
    }

    pub(crate) fn apply_as(&self, archive: &Archive, whiteouts: WhiteoutMode) -> Result<Applied, Error> {
        self.apply_with(archive, &ApplyOptions { whiteouts, ..ApplyOptions::default() })
    }

    /// Nothing beside the destination was changed.
    pub(crate) fn check_victim(&self) {
        let outside = self.outside.path();
        assert_eq!(list(outside).iter().filter(|line| !line.starts_with("dest/")).count(), 2);
        assert_eq!(fs::read_to_string(outside.join("victim/hello")).unwrap(), "hello");
        assert_eq!(fs::metadata(outside.join("victim/hello")).unwrap().nlink(), 1);
    }

    /// One line for each path, sorted: `path/`, `path = content`, `path -> target`, `path (type)`.
    pub(crate) fn list(&self) -> Vec<String> {
        list(&self.path(""))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path(path)).unwrap()
    }
}

fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name =
                String::from_utf8_lossy(path.strip_prefix(root).unwrap().as_os_str().as_bytes()).into_owned();
            let stat = path.symlink_metadata().unwrap();
            let kind = stat.file_type();
            lines.push(match () {
                () if kind.is_dir() => {
                    pending.push(path);
                    format!("{name}/")
                }
                () if kind.is_symlink() => format!("{name} -> {}", fs::read_link(&path).unwrap().display()),
                () if kind.is_file() => {
                    format!("{name} = {}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
                }
                () if kind.is_fifo() => format!("{name} (fifo)"),
                () if kind.is_char_device() && stat.rdev() == 0 => format!("{name} (whiteout)"),
                () => format!("{name} (device {:x})", stat.rdev()),
            });
        }
    }
    lines.sort();
    lines
}

/// An extended attribute, not following a symbolic link.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let dir = fs::File::open(path.parent().unwrap()).unwrap();
    graphdriver_sys::xattr::get_at(&dir, path.file_name().unwrap(), name).unwrap()
}
