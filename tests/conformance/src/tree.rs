//! Everything that can be seen of a tree, to compare it with another.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graphdriver_sys::xattr;

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
    /// Contents of a regular file, target of a symbolic link.
    pub contents: Vec<u8>,
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Where a file has several names: the first of them in the order of the tree.
    pub link: Option<PathBuf>,
}

/// All files of a tree by path relative to its root, whose own path is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    pub fn read(root: &Path, times: Times) -> Self {
        let mut nodes = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let full = root.join(&path);
            let node = Node::read(&full, times, path.as_os_str().is_empty());
            if node.is_dir() {
                pending
                    .extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            }
            nodes.insert(path, node);
        }
        let mut tree = Self { nodes };
        tree.name_links(root);
        tree
    }

    fn name_links(&mut self, root: &Path) {
        let mut first = BTreeMap::new();
        for (path, node) in &mut self.nodes {
            let metadata = root.join(path).symlink_metadata().unwrap();
            if !node.is_dir() && metadata.nlink() > 1 {
                node.link = Some(
                    first.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone()).clone(),
                );
            }
        }
    }

    /// Fails with the paths that differ, and how.
    #[track_caller]
    pub fn assert_same(&self, expected: &Self) {
        let paths =
            self.nodes.keys().chain(expected.nodes.keys().filter(|path| !self.nodes.contains_key(*path)));
        let differing: Vec<String> = paths
            .filter(|path| self.nodes.get(*path) != expected.nodes.get(*path))
            .map(|path| {
                format!(
                    "{path:?}\n  has     {:?}\n  expects {:?}",
                    self.nodes.get(path),
                    expected.nodes.get(path)
                )
            })
            .collect();
        assert!(differing.is_empty(), "the trees differ:\n{}", differing.join("\n"));
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
        String::from_utf8_lossy(&self.node(path).contents).into_owned()
    }
}

impl Node {
    fn read(path: &Path, times: Times, is_root: bool) -> Self {
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let contents = if kind.is_file() {
            fs::read(path).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_vec()
        } else {
            Vec::new()
        };
        let mtime = match times {
            _ if is_root => (0, 0),
            Times::Nanoseconds => (metadata.mtime(), metadata.mtime_nsec()),
            Times::Seconds => (metadata.mtime(), 0),
        };
        Self {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            rdev: metadata.rdev(),
            mtime,
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
