//! Everything that can be seen of a tree, to compare it with another.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graphdriver_sys::xattr;
use sha2::{Digest, Sha256};

/// How exactly times are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To the nanosecond: a copy.
    Nanoseconds,
    /// To the second: what went through an archive.
    Seconds,
}

/// One file as `lstat`, its contents and its attributes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of devices.
    pub rdev: u64,
    /// Seconds and nanoseconds; zero for the root, whose time nothing keeps.
    pub mtime: (i64, i64),
    /// Of a regular file; the target of a symbolic link.
    pub contents: Contents,
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Where a file has several names in the tree: the first of them in the order of the tree.
    pub link: Option<PathBuf>,
}

/// What a file holds, or what identifies that.
#[derive(Clone, PartialEq, Eq)]
pub enum Contents {
    Whole(Vec<u8>),
    Digest { bytes: u64, sha256: [u8; 32] },
}

/// All files of a tree by path relative to its root, whose own path is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub nodes: BTreeMap<PathBuf, Node>,
}

/// Where two trees differ.
#[derive(Debug)]
pub struct Differences<'a> {
    /// Path, and the file there in either tree.
    nodes: Vec<(&'a Path, Option<&'a Node>, Option<&'a Node>)>,
}

/// Of more files than these the differences are only counted.
const SHOWN: usize = 20;

/// Of a large tree, contents over this length are kept as a digest.
const KEPT_BYTES: u64 = 256;

impl Tree {
    /// Reads a tree that is small enough to be held in memory.
    pub fn read(root: &Path, times: Times) -> Self {
        Self::read_with(root, times, u64::MAX)
    }

    /// Reads a tree of any size, with times to the nanosecond: of all but short files a digest is kept.
    pub fn read_large(root: &Path) -> Self {
        Self::read_with(root, Times::Nanoseconds, KEPT_BYTES)
    }

    fn read_with(root: &Path, times: Times, kept_bytes: u64) -> Self {
        let mut nodes = BTreeMap::new();
        let mut names: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let full = root.join(&path);
            let metadata = full.symlink_metadata().unwrap();
            if metadata.is_dir() {
                pending
                    .extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            } else if metadata.nlink() > 1 {
                names.entry((metadata.dev(), metadata.ino())).or_default().push(path.clone());
            }
            let mut node = Node::read(&full, &metadata, times, kept_bytes);
            if path.as_os_str().is_empty() {
                node.mtime = (0, 0);
            }
            nodes.insert(path, node);
        }
        // A name that a whiteout hides still counts in `nlink`, so names that can be seen make a group.
        for group in names.into_values().filter(|group| group.len() > 1) {
            let first = group.iter().min().cloned();
            for path in &group {
                nodes.get_mut(path).expect("a path that was just read").link.clone_from(&first);
            }
        }
        Self { nodes }
    }

    /// Where this tree and `expected` differ; `None` when they are the same.
    pub fn differences<'a>(&'a self, expected: &'a Self) -> Option<Differences<'a>> {
        let missing = expected.nodes.keys().filter(|path| !self.nodes.contains_key(*path));
        let paths = self.nodes.keys().chain(missing);
        let pairs = paths.map(|path| (path.as_path(), self.nodes.get(path), expected.nodes.get(path)));
        let nodes: Vec<_> = pairs.filter(|(_, found, expected)| found != expected).collect();
        (!nodes.is_empty()).then_some(Differences { nodes })
    }

    /// Lets the time of the file at `path`, if there is one, be equal to any.
    pub fn forget_time(&mut self, path: &Path) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.mtime = (0, 0);
        }
    }

    /// Fails with the paths that differ, and how.
    #[track_caller]
    pub fn assert_same(&self, expected: &Self) {
        if let Some(differences) = self.differences(expected) {
            panic!("{differences}");
        }
    }

    /// The paths below the root, as text.
    pub fn paths(&self) -> Vec<String> {
        self.nodes.keys().skip(1).map(|path| path.display().to_string()).collect()
    }

    #[track_caller]
    pub fn node(&self, path: &str) -> &Node {
        self.nodes
            .get(Path::new(path))
            .unwrap_or_else(|| panic!("{path:?} is missing; there is {:?}", self.paths()))
    }

    #[track_caller]
    pub fn contents(&self, path: &str) -> String {
        String::from_utf8_lossy(self.node(path).contents.whole()).into_owned()
    }
}

impl Node {
    fn read(path: &Path, metadata: &fs::Metadata, times: Times, kept_bytes: u64) -> Self {
        let kind = metadata.file_type();
        let contents = if kind.is_file() {
            Contents::of_file(path, kept_bytes)
        } else if kind.is_symlink() {
            Contents::Whole(fs::read_link(path).unwrap().into_os_string().into_vec())
        } else {
            Contents::Whole(Vec::new())
        };
        let nanoseconds = if times == Times::Nanoseconds { metadata.mtime_nsec() } else { 0 };
        Self {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            rdev: metadata.rdev(),
            mtime: (metadata.mtime(), nanoseconds),
            contents,
            xattrs: xattrs(path),
            link: None,
        }
    }

    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Whether the two differ in nothing but when they were written, and in their other names.
    pub fn same_but_for_time(&self, other: &Self) -> bool {
        let timeless = |node: &Self| Self { mtime: (0, 0), link: None, ..node.clone() };
        timeless(self) == timeless(other)
    }

    /// The twelve permission bits.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    #[track_caller]
    pub fn xattr(&self, name: &str) -> &[u8] {
        self.xattrs
            .get(OsStr::new(name))
            .unwrap_or_else(|| panic!("no xattr {name}; there is {:?}", self.xattrs))
    }
}

impl Contents {
    fn of_file(path: &Path, kept_bytes: u64) -> Self {
        let mut file = File::open(path).unwrap();
        let mut kept = Vec::new();
        file.by_ref().take(kept_bytes.saturating_add(1)).read_to_end(&mut kept).unwrap();
        if kept.len() as u64 <= kept_bytes {
            return Self::Whole(kept);
        }
        let mut digest = Sha256::new_with_prefix(&kept);
        let mut bytes = kept.len() as u64;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                return Self::Digest { bytes, sha256: digest.finalize().into() };
            }
            digest.update(&buffer[..read]);
            bytes += read as u64;
        }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Whole(contents) => contents.len() as u64,
            Self::Digest { bytes, .. } => *bytes,
        }
    }

    /// The contents themselves, which have to be there.
    #[track_caller]
    pub fn whole(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Digest { .. } => panic!("of this file only a digest was kept"),
        }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) if bytes.len() > 100 => {
                write!(f, "{:?}... {} bytes", OsStr::from_bytes(&bytes[..100]), bytes.len())
            }
            Self::Whole(bytes) => write!(f, "{:?}", OsStr::from_bytes(bytes)),
            Self::Digest { bytes, sha256 } => {
                write!(f, "{bytes} bytes, {:016x}", u64::from_be_bytes(sha256[..8].try_into().unwrap()))
            }
        }
    }
}

impl fmt::Display for Differences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the trees differ in {} files:", self.nodes.len())?;
        for (path, found, expected) in self.nodes.iter().take(SHOWN) {
            write!(f, "\n{path:?}\n  has     {}\n  expects {}", described(*found), described(*expected))?;
        }
        Ok(())
    }
}

fn described(node: Option<&Node>) -> String {
    node.map_or_else(|| "nothing".to_owned(), |node| format!("{:06o} {node:?}", node.mode))
}

/// All attributes but those that the machine's security module gives every file.
fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let (dir, name) = match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => (File::open(dir).unwrap(), name),
        _ => return BTreeMap::new(),
    };
    let names = match xattr::list_at(&dir, name) {
        Err(nix::errno::Errno::EOPNOTSUPP) => return BTreeMap::new(),
        names => names.unwrap(),
    };
    let names = names.iter().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
    let kept = names.filter(|attribute| attribute != "security.selinux");
    kept.map(|attribute| {
        let value = xattr::get_at(&dir, name, attribute.as_os_str()).unwrap();
        (attribute, value.expect("an attribute that was listed"))
    })
    .collect()
}
