//! What is in an image.

use std::collections::HashMap;

use nix::sys::stat::FileStat;

use crate::xattrs::Xattr;

/// A node, by its place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

/// A tree; the first node is its root.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

/// A file of any kind.
#[derive(Debug)]
pub(super) struct Node {
    /// Type and permissions, as in `st_mode`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) links: u32,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) content: Content,
}

/// What a file holds.
#[derive(Debug)]
pub(super) enum Content {
    Directory {
        names: Vec<(Box<[u8]>, NodeId)>,
        parent: NodeId,
    },
    Symlink(Vec<u8>),
    /// A regular file of this length, which reads as zeros.
    File {
        bytes: u64,
        object: Option<Object>,
    },
    /// A device with the number that the kernel has for it.
    Device {
        major: u64,
        minor: u64,
    },
    /// A fifo or a socket.
    Other,
}

/// Where overlay finds a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Of the contents; the file's name.
    pub(super) sha256: [u8; 32],
    /// By which the kernel checks them.
    pub(super) verity: Option<[u8; 32]>,
}

impl Object {
    /// The path of the file that holds the contents, below the directory of all objects.
    pub(super) fn path(&self) -> String {
        let name = hex::encode(self.sha256);
        format!("{}/{}", &name[..2], &name[2..])
    }
}

impl Node {
    pub(super) fn new(stat: &FileStat, xattrs: Vec<Xattr>, content: Content) -> Self {
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            links: 0,
            xattrs,
            content,
        }
    }
}

impl Tree {
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn new(root: &FileStat, xattrs: Vec<Xattr>) -> Self {
        let content = Content::Directory { names: Vec::new(), parent: Self::ROOT };
        Self { nodes: vec![Node { links: 2, ..Node::new(root, xattrs, content) }] }
    }

    /// Adds a file that is not there yet as `name` of the directory `parent`; `None` when there are as many files as can be numbered.
    pub(super) fn add(&mut self, parent: NodeId, name: &[u8], node: Node) -> Option<NodeId> {
        let id = NodeId(u32::try_from(self.nodes.len()).ok()?);
        let is_dir = matches!(node.content, Content::Directory { .. });
        self.nodes.push(node);
        self.link(parent, name, id);
        if is_dir {
            // Its own name for itself, and the one that it has for the directory above.
            self.nodes[id.0 as usize].links += 1;
            self.nodes[parent.0 as usize].links += 1;
        }
        Some(id)
    }

    /// Gives a file another name.
    pub(super) fn link(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        self.nodes[id.0 as usize].links += 1;
        if let Content::Directory { names, .. } = &mut self.nodes[parent.0 as usize].content {
            names.push((name.into(), id));
        }
    }

    pub(super) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

/// The nodes of directories by their paths, and of files with several names by their inodes.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) directories: HashMap<Vec<u8>, NodeId>,
    pub(super) linked: HashMap<(u64, u64), NodeId>,
}
