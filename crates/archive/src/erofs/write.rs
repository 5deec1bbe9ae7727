//! The bytes of an image.

use std::io::{self, Write};

use super::layout::{self, Layout, Place};
use super::tree::{Content, Node, NodeId, Tree};
use super::{BLOCK, attributes, directory};
use crate::error::{Error, Result};

/// `struct lcfs_erofs_header_s`: marks a composefs image. Version 2 has whiteouts as they are, and none of its own.
const COMPOSEFS_MAGIC: u32 = 0xd078_629a;
const COMPOSEFS_VERSION: u32 = 2;
const COMPOSEFS_HAS_ACL: u32 = 1;

const SUPERBLOCK: usize = 1024;
const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = 12;
/// `EROFS_FEATURE_COMPAT_MTIME`: times are those of the last change of contents.
const COMPAT_MTIME: u32 = 2;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE` (Linux 5.15).
const INCOMPAT_CHUNKED_FILE: u32 = 4;

/// The longer form of inodes; what follows is the form of the contents.
const EXTENDED: u16 = 1;
const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;
const CHUNK_BASED: u16 = 4;
/// The size of a chunk: as large as it can be.
const LARGEST_CHUNK: u32 = 31;
/// No block.
const NULL_BLOCK: u32 = u32::MAX;

/// Writes the image of a tree; returns how many bytes it has.
///
/// # Errors
/// `NotSupported` for what cannot be in an image; the kind of the failure to write.
pub(super) fn write(tree: &Tree, out: &mut dyn Write) -> Result<u64> {
    let layout = Layout::of(tree)?;
    let mut image = Image { tree, layout: &layout, out, position: 0 };
    image.write()?;
    Ok(image.position)
}

struct Image<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
    out: &'a mut dyn Write,
    position: u64,
}

impl Image<'_> {
    fn write(&mut self) -> Result<()> {
        self.put(&head(self.tree, self.layout))?;
        for (id, node, place) in self.nodes() {
            self.pad(place.at)?;
            let xattrs = attributes::encode(node)?;
            self.put(&inode(node, &place, attributes::count(&xattrs)))?;
            self.put(&xattrs)?;
            if let Content::File { bytes, .. } = node.content {
                for _ in 0..layout::chunks(bytes) {
                    self.put(&NULL_BLOCK.to_le_bytes())?;
                }
            } else {
                let holds = self.contents(id, node);
                self.put(&holds[holds.len() - usize::try_from(place.inline).unwrap_or(0)..])?;
            }
        }
        self.pad(self.layout.first_block * BLOCK)?;
        for (id, node, place) in self.nodes().filter(|(_, _, place)| place.block > 0) {
            let holds = self.contents(id, node);
            let apart = holds.len() - usize::try_from(place.inline).unwrap_or(0);
            self.put(&holds[..apart])?;
            self.pad((place.block + place.blocks()) * BLOCK)?;
        }
        Ok(())
    }

    fn nodes<'t>(&self) -> impl Iterator<Item = (NodeId, &'t Node, Place)> + use<'t>
    where
        Self: 't,
    {
        let (tree, layout) = (self.tree, self.layout);
        (0..).map(NodeId).zip(&tree.nodes).zip(&layout.places).map(|((id, node), place)| (id, node, *place))
    }

    fn contents(&self, id: NodeId, node: &Node) -> Vec<u8> {
        match &node.content {
            Content::Directory { names, parent } => {
                let number = |node: NodeId| self.layout.places[node.0 as usize].number();
                directory::encode(self.tree, id, names, *parent, number)
            }
            Content::Symlink(target) => target.clone(),
            Content::File { .. } | Content::Device { .. } | Content::Other => Vec::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write", error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros up to `position`.
    fn pad(&mut self, position: u64) -> Result<()> {
        let bytes = position - self.position;
        let padded = io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut self.out);
        padded.map_err(|error| Error::io("write", error))?;
        self.position = position;
        Ok(())
    }
}

/// All that is before the first inode.
fn head(tree: &Tree, layout: &Layout) -> Vec<u8> {
    let has_acl = tree.nodes.iter().any(attributes::has_acl);
    let flags = if has_acl { COMPOSEFS_HAS_ACL } else { 0 };
    let mut head = [COMPOSEFS_MAGIC, COMPOSEFS_VERSION, flags].map(u32::to_le_bytes).concat();
    head.resize(SUPERBLOCK, 0);
    let mut put = |bytes: &[u8]| head.extend(bytes);
    put(&EROFS_MAGIC.to_le_bytes());
    // No checksum.
    put(&0_u32.to_le_bytes());
    put(&COMPAT_MTIME.to_le_bytes());
    put(&[BLOCK_BITS, 0]);
    let root = layout.places.first().map_or(0, Place::number);
    put(&u16::try_from(root).unwrap_or(u16::MAX).to_le_bytes());
    put(&(tree.nodes.len() as u64).to_le_bytes());
    // Time of building, seconds and nanoseconds: the same tree gives the same image.
    put(&[0; 12]);
    put(&u32::try_from(layout.blocks).unwrap_or(u32::MAX).to_le_bytes());
    // Inodes are numbered from the beginning; no attributes are shared; no UUID, no name.
    put(&[0; 4 + 4 + 16 + 16]);
    put(&INCOMPAT_CHUNKED_FILE.to_le_bytes());
    head.resize(SUPERBLOCK + 128, 0);
    head
}

/// `struct erofs_inode_extended`.
fn inode(node: &Node, place: &Place, xattrs: u16) -> Vec<u8> {
    let (form, place_of_contents) = match &node.content {
        Content::File { bytes, .. } if *bytes > 0 => (CHUNK_BASED, LARGEST_CHUNK),
        Content::Device { major, minor } => (FLAT_PLAIN, device(*major, *minor)),
        Content::File { .. } | Content::Other => (FLAT_PLAIN, NULL_BLOCK),
        Content::Directory { .. } | Content::Symlink(_) => {
            let block = u32::try_from(place.block).ok().filter(|block| *block > 0).unwrap_or(NULL_BLOCK);
            (if place.inline > 0 { FLAT_INLINE } else { FLAT_PLAIN }, block)
        }
    };
    let mut inode = Vec::with_capacity(64);
    inode.extend((EXTENDED | form << 1).to_le_bytes());
    inode.extend(xattrs.to_le_bytes());
    // Of `st_mode` the kernel's half.
    inode.extend(u16::try_from(node.mode & 0xffff).unwrap_or(0).to_le_bytes());
    inode.extend([0; 2]);
    inode.extend(place.size.to_le_bytes());
    inode.extend(place_of_contents.to_le_bytes());
    inode.extend(u32::try_from(place.number()).unwrap_or(u32::MAX).to_le_bytes());
    inode.extend(node.uid.to_le_bytes());
    inode.extend(node.gid.to_le_bytes());
    inode.extend(node.seconds.to_le_bytes());
    inode.extend(node.nanoseconds.to_le_bytes());
    inode.extend(node.links.to_le_bytes());
    inode.extend([0; 16]);
    inode
}

/// `new_encode_dev` of `linux/kdev_t.h`.
fn device(major: u64, minor: u64) -> u32 {
    let number = (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12;
    u32::try_from(number).unwrap_or(u32::MAX)
}
