//! Where in an image things are: after the superblock all inodes, each with its attributes and, where it fits, what the file holds; then the blocks of what does not.

use super::tree::{Content, Node, NodeId, Tree};
use super::{BLOCK, SLOT, align, attributes, directory};
use crate::error::{Error, ErrorKind, Result};

/// Where the first inode may begin: after the superblock, which begins at 1024.
const FIRST: u64 = 1024 + 128;
/// Bytes of an inode, in the longer form that has all owners and times.
pub(super) const INODE_BYTES: u64 = 64;
/// The largest part of a file that one entry of its map can stand for, as an exponent of two: 31 more than that of a block.
const CHUNK_BITS: u32 = 12 + 31;
/// Bytes of such an entry.
const CHUNK_ENTRY_BYTES: u64 = 4;
/// The root's number has 16 bits only.
const MAX_ROOT: u64 = u16::MAX as u64;

/// Where one node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the inode, in bytes from the beginning of the image.
    pub(super) at: u64,
    /// Bytes of what the node holds, as it counts in `st_size`.
    pub(super) size: u64,
    /// How many of these follow the inode.
    pub(super) inline: u64,
    /// The block at which the others begin; zero for none.
    pub(super) block: u64,
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.at / SLOT
    }

    /// How many blocks there are besides what follows the inode.
    pub(super) fn blocks(&self) -> u64 {
        if self.block == 0 { 0 } else { (self.size - self.inline).div_ceil(BLOCK) }
    }
}

/// Where all nodes are.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    /// Where the blocks begin that are no inodes.
    pub(super) first_block: u64,
    /// All blocks.
    pub(super) blocks: u64,
}

impl Layout {
    /// # Errors
    /// `NotSupported` for what cannot be in an image.
    pub(super) fn of(tree: &Tree) -> Result<Self> {
        let mut at = FIRST;
        let mut places = Vec::with_capacity(tree.nodes.len());
        for (id, node) in (0..).map(NodeId).zip(&tree.nodes) {
            let head = INODE_BYTES + attributes::encode(node)?.len() as u64;
            let size = size(id, node);
            let inline = inline(node, head, size);
            at = begin(at, head, inline);
            places.push(Place { at, size, inline, block: 0 });
            at += head + inline + map_bytes(node);
        }
        let first_block = at.div_ceil(BLOCK);
        let mut blocks = first_block;
        for (place, node) in places.iter_mut().zip(&tree.nodes) {
            if !matches!(node.content, Content::File { .. }) && place.inline < place.size {
                place.block = blocks;
                blocks += place.blocks();
            }
        }
        if u32::try_from(blocks).is_err() || places.first().is_some_and(|root| root.number() > MAX_ROOT) {
            let detail = "the layer has more metadata than fits into an EROFS image";
            return Err(Error::new(ErrorKind::NotSupported, "write image").detail(detail));
        }
        Ok(Self { places, first_block, blocks })
    }
}

/// How many entries the map of a file of this length has.
pub(super) fn chunks(bytes: u64) -> u64 {
    bytes.div_ceil(1 << CHUNK_BITS)
}

fn map_bytes(node: &Node) -> u64 {
    match node.content {
        Content::File { bytes, .. } => chunks(bytes) * CHUNK_ENTRY_BYTES,
        _ => 0,
    }
}

fn size(id: NodeId, node: &Node) -> u64 {
    match &node.content {
        Content::Directory { names, parent } => directory::size(id, names, *parent),
        Content::Symlink(target) => target.len() as u64,
        Content::File { bytes, .. } => *bytes,
        Content::Device { .. } | Content::Other => 0,
    }
}

/// How much of what the node holds follows its inode: what does not fill a block, if there is room for it in one.
fn inline(node: &Node, head: u64, size: u64) -> u64 {
    let rest = size % BLOCK;
    let holds = matches!(node.content, Content::Directory { .. } | Content::Symlink(_));
    if holds && head + rest <= BLOCK { rest } else { 0 }
}

/// The first place from `at` on where an inode can be: what follows `head` bytes must be in one block.
fn begin(at: u64, head: u64, inline: u64) -> u64 {
    let at = align(at, SLOT);
    let follows = at + head;
    if inline == 0 || follows / BLOCK == (follows + inline - 1) / BLOCK {
        return at;
    }
    let boundary = align(follows, BLOCK);
    let later = align(boundary - head, SLOT);
    if later + head + inline <= boundary + BLOCK { later } else { align(at, BLOCK) }
}
