//! A layer's directory as an image of its metadata, and its files' contents as objects.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use graphdriver_sys::{FileType, verity, xattr};
use nix::errno::Errno;
use nix::fcntl::{readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, major, minor, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use sha2::{Digest, Sha256};

use super::tree::{Content, Known, Node, NodeId, Object, Tree};
use super::write::write;
use crate::error::{Error, ErrorKind, Result};
use crate::root::RootDir;
use crate::walk::{Visited, as_path, open_file_at, visit_tree};
use crate::whiteout::OverlayXattrs;
use crate::xattrs::{self, Xattr};

/// Bytes of a file that are read at a time.
const BUFFER_BYTES: usize = 128 << 10;
/// What an object looks like: whoever mounts the layer reads it.
const OBJECT_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// What came of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packed {
    /// Bytes of the image.
    pub image_bytes: u64,
    /// How many contents there are, each once.
    pub objects: u64,
    /// Whether the kernel guards them ([fs-verity](graphdriver_sys::verity)), and the image has the digests that they must have.
    pub verity: bool,
}

/// Moves the contents of all files in `tree`, a layer's directory in the form of the kernel's overlay, into `objects`, an empty directory on the same
/// file system, and writes to `image` what remains: an EROFS image in which each file that is not empty refers to its contents by the attributes
/// `trusted.overlay.metacopy` and `trusted.overlay.redirect`.
///
/// An object is called by the SHA-256 of its bytes, as `xx/yyyy...`; equal files share one. Overlay finds it when `objects` is a data-only layer below the mounted
/// image (Linux 6.5). Where the file system has fs-verity, objects get it, and the attribute says their digest. Whiteouts and opaque directories are in the
/// image as they are in the tree. Attributes that are no part of a layer (labels of this host, overlay's other marks) are not.
///
/// The same tree gives the same image. Of `tree` an emptied rest remains, for the caller to remove; on failure some files may have been moved. Memory grows with the
/// number of files: some 200 bytes for each, names and attributes included.
///
/// # Errors
/// `NotSupported` for extended attributes longer than an image can have (64 KiB less one byte each, 256 KiB for a file), and for more than four billion files; `NoSpace`; else the kind of the
/// failed system call.
#[doc(alias = "mkcomposefs")]
#[doc(alias = "generateComposeFsBlob")]
pub fn pack(tree: &RootDir, objects: &RootDir, image: &mut dyn Write) -> Result<Packed> {
    let mut packing = Packing {
        tree: Tree::new(&stat_of(tree)?, with_mark(xattrs_of(tree)?, tree.as_fd(), b"")?),
        known: Known::default(),
        objects,
        stored: HashMap::new(),
        directories: [false; 256],
        verity: true,
        buffer: vec![0; BUFFER_BYTES],
    };
    visit_tree(tree, |visited| packing.take(visited).map(|()| true))?;
    let image_bytes = write(&packing.tree, image)?;
    let objects = packing.stored.len() as u64;
    Ok(Packed { image_bytes, objects, verity: packing.verity && objects > 0 })
}

struct Packing<'a> {
    tree: Tree,
    known: Known,
    objects: &'a RootDir,
    /// By the digest of their contents.
    stored: HashMap<[u8; 32], Object>,
    /// The directories of objects that have been made.
    directories: [bool; 256],
    /// Whether fs-verity is to be had, as far as is known.
    verity: bool,
    buffer: Vec<u8>,
}

impl Packing<'_> {
    fn take(&mut self, visited: &Visited<'_>) -> Result<()> {
        let Visited { name, path, stat, .. } = visited;
        let above = path.len() - name.to_bytes().len();
        let above = path[..above].strip_suffix(b"/").unwrap_or_default();
        let parent = self.known.directories.get(above).copied().unwrap_or(Tree::ROOT);
        let linked = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        if let Some(first) = linked.and_then(|inode| self.known.linked.get(&inode)) {
            self.tree.link(parent, name.to_bytes(), *first);
            return Ok(());
        }
        let node = self.node(visited, parent)?;
        let is_dir = matches!(node.content, Content::Directory { .. });
        let id = self.tree.add(parent, name.to_bytes(), node).ok_or_else(|| {
            Error::new(ErrorKind::NotSupported, "write image").detail("the layer has too many files")
        })?;
        if is_dir {
            self.known.directories.insert(path.clone(), id);
        } else if let Some(inode) = linked {
            self.known.linked.insert(inode, id);
        }
        Ok(())
    }

    fn node(&mut self, visited: &Visited<'_>, parent: NodeId) -> Result<Node> {
        let Visited { dir, name, path, stat } = visited;
        let failed = |operation| move |errno| Error::syscall(operation, as_path(path), errno);
        let content = match FileType::from_mode(stat.st_mode) {
            FileType::Regular => return self.file(visited),
            FileType::Directory => {
                let fd = crate::walk::open_dir_at(dir, name.as_c_str()).map_err(failed("openat"))?;
                let attributes = xattrs::of_file(&fd).map_err(failed("fgetxattr"))?;
                let attributes = with_mark(attributes, fd.as_fd(), path)?;
                let content = Content::Directory { names: Vec::new(), parent };
                return Ok(Node::new(stat, attributes, content));
            }
            FileType::Symlink => {
                let target = readlinkat(dir, name.as_c_str()).map_err(failed("readlinkat"))?;
                Content::Symlink(target.into_vec())
            }
            FileType::CharDevice | FileType::BlockDevice => {
                Content::Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            _ => Content::Other,
        };
        let attributes = xattrs::of_entry(dir, name).map_err(failed("lgetxattr"))?;
        Ok(Node::new(stat, attributes, content))
    }

    fn file(&mut self, visited: &Visited<'_>) -> Result<Node> {
        let Visited { dir, name, path, stat } = visited;
        let failed = |operation| move |errno| Error::syscall(operation, as_path(path), errno);
        let fd = open_file_at(dir, name.as_c_str()).map_err(failed("openat"))?;
        let attributes = xattrs::of_file(&fd).map_err(failed("fgetxattr"))?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let mut object = None;
        if bytes > 0 {
            let file = File::from(fd);
            let sha256 = self.digest(&file).map_err(|error| error.path(as_path(path)))?;
            object = Some(match self.stored.get(&sha256) {
                Some(stored) => *stored,
                None => self.store(visited, &file, sha256)?,
            });
        }
        Ok(Node::new(stat, attributes, Content::File { bytes, object }))
    }

    fn digest(&mut self, mut file: &File) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => return Ok(hash.finalize().into()),
                Ok(bytes) => hash.update(&self.buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", error)),
            }
        }
    }

    /// Makes the file the object of its contents.
    fn store(&mut self, visited: &Visited<'_>, file: &File, sha256: [u8; 32]) -> Result<Object> {
        let Visited { dir, name, path, stat } = visited;
        let failed = |operation| move |errno| Error::syscall(operation, as_path(path), errno);
        let mut object = Object { sha256, verity: None };
        let place = object.path();
        let directory = &mut self.directories[usize::from(sha256[0])];
        if !*directory {
            let mode = Mode::from_bits_truncate(0o755);
            mkdirat(self.objects, &place[..2], mode)
                .map_err(|errno| Error::syscall("mkdirat", &place[..2], errno))?;
            *directory = true;
        }
        // Neither set-id bits nor an owner, whose quota it would count for.
        if (stat.st_uid, stat.st_gid) != (0, 0) {
            fchown(file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0))).map_err(failed("fchown"))?;
        }
        fchmod(file, OBJECT_MODE).map_err(failed("fchmod"))?;
        renameat(dir, name.as_c_str(), self.objects, place.as_str()).map_err(failed("renameat"))?;
        if self.verity {
            object.verity = guard(file).map_err(failed("enable verity"))?;
            self.verity = object.verity.is_some();
        }
        self.stored.insert(sha256, object);
        Ok(object)
    }
}

/// Lets the kernel guard the file; `None` where that cannot be had.
fn guard(file: &File) -> nix::Result<Option<[u8; 32]>> {
    match verity::enable(file) {
        Ok(()) | Err(Errno::EEXIST) => verity::measure(file).map(Some),
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn stat_of(root: &RootDir) -> Result<FileStat> {
    fstat(root).map_err(|errno| Error::syscall("fstat", root.path(), errno))
}

fn xattrs_of(root: &RootDir) -> Result<Vec<Xattr>> {
    xattrs::of_file(root).map_err(|errno| Error::syscall("fgetxattr", root.path(), errno))
}

/// The attributes, and the mark that says that a directory hides what is below.
fn with_mark(mut attributes: Vec<Xattr>, dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Xattr>> {
    let name = OverlayXattrs::Trusted.opaque();
    match xattr::fget(dir, name) {
        Ok(Some(value)) => attributes.push(Xattr { name: name.to_owned(), value }),
        Ok(None) | Err(Errno::EOPNOTSUPP) => {}
        Err(errno) => return Err(Error::syscall("fgetxattr", as_path(path), errno)),
    }
    Ok(attributes)
}
