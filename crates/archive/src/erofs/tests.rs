//! Images as the kernel reads them.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use graphdriver_sys::mount_api::{FsContext, MountAttrFlags, move_mount};
use graphdriver_sys::xattr::{self, SetFlags};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::layout::Layout;
use super::tree::{Content, Node, Tree};
use super::{Packed, directory, pack};
use crate::RootDir;

/// A layer, where its image and its objects go, and where they are mounted.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["tree", "objects", "image", "merged"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn pack(&self) -> (Packed, Vec<u8>) {
        let mut image = Vec::new();
        let [tree, objects] = ["tree", "objects"].map(|name| RootDir::open(self.path(name)).unwrap());
        let packed = pack(&tree, &objects, &mut image).unwrap();
        assert_eq!(packed.image_bytes, image.len() as u64);
        assert_eq!(image.len() % 4096, 0);
        (packed, image)
    }

    /// Mounts the image alone.
    fn mount(&self, image: &[u8]) -> Mounted {
        let file = self.path("blob");
        fs::write(&file, image).unwrap();
        let device =
            graphdriver_sys::loop_device::LoopDevice::attach_read_only(File::open(&file).unwrap()).unwrap();
        let context = FsContext::open(c"erofs").unwrap();
        context.set_string(c"source", device.path()).unwrap();
        context.set_flag(c"ro").unwrap();
        context.create().unwrap();
        let mount = context.mount(MountAttrFlags::RDONLY).unwrap();
        Mounted::attach(&mount, self.path("image"))
    }

    /// Mounts the image over its objects.
    fn compose(&self, _image: &Mounted) -> Mounted {
        let target = self.path("merged");
        let [image, objects] = ["image", "objects"].map(|name| self.path(name).display().to_string());
        let data = format!("lowerdir={image}::{objects},metacopy=on,redirect_dir=on");
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::MS_RDONLY, Some(data.as_str())).unwrap();
        Mounted(target)
    }
}

struct Mounted(PathBuf);

impl Mounted {
    fn attach(mount: &OwnedFd, target: PathBuf) -> Self {
        move_mount(mount, File::open(&target).unwrap(), c"").unwrap();
        Self(target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    xattr::fget(File::open(path).unwrap(), name).unwrap()
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    xattr::fset(File::open(path).unwrap(), name, value, SetFlags::empty()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn the_kernel_shows_what_was_packed() {
    let place = Place::new();
    place.write("etc/passwd", "root");
    place.write("etc/copy", "root");
    place.write("empty", "");
    place.write("large", vec![7; 3 << 20]);
    fs::hard_link(place.path("tree/large"), place.path("tree/etc/link")).unwrap();
    symlink("../large", place.path("tree/etc/symlink")).unwrap();
    symlink("x".repeat(4000), place.path("tree/long")).unwrap();
    let fifo = place.path("tree/fifo");
    mknod(&fifo, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0).unwrap();
    let device = place.path("tree/device");
    mknod(&device, SFlag::S_IFBLK, Mode::from_bits_truncate(0o600), makedev(259, 0x12345)).unwrap();
    let passwd = place.path("tree/etc/passwd");
    chown(&passwd, Some(70_000), Some(80_000)).unwrap();
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH - std::time::Duration::new(1000, 500_000_000);
    File::options().write(true).open(&passwd).unwrap().set_modified(time).unwrap();
    set_attribute(&passwd, "user.name", b"value");
    set_attribute(&passwd, "trusted.name", b"");
    set_attribute(&place.path("tree/etc"), "user.long", &[b'v'; 3000]);
    let names: Vec<String> = (0..1500).map(|number| format!("{number:0>60}")).collect();
    for name in &names {
        place.write(&format!("many/{name}"), "");
    }
    place.write("many/!", "before the dots");
    let (packed, image) = place.pack();
    assert_eq!(packed.objects, 3);

    let mounted = place.mount(&image);
    let composed = place.compose(&mounted);
    let at = |path: &str| composed.0.join(path);
    let passwd = at("etc/passwd").metadata().unwrap();
    assert_eq!((passwd.uid(), passwd.gid(), passwd.mode() & 0o7777), (70_000, 80_000, 0o4751));
    assert_eq!(passwd.modified().unwrap(), time);
    assert_eq!(attribute(&at("etc/passwd"), "user.name").unwrap(), b"value");
    assert_eq!(attribute(&at("etc/passwd"), "trusted.name").unwrap(), b"");
    assert_eq!(attribute(&at("etc"), "user.long").unwrap(), [b'v'; 3000]);
    assert_eq!(fs::read(at("etc/passwd")).unwrap(), b"root");
    assert_eq!(fs::read(at("etc/copy")).unwrap(), b"root");
    assert_eq!(fs::read(at("empty")).unwrap(), b"");
    assert!(fs::read(at("large")).unwrap() == vec![7; 3 << 20]);
    assert!(fs::read(at("etc/symlink")).unwrap() == vec![7; 3 << 20]);
    assert_eq!(fs::read_link(at("long")).unwrap().as_os_str().len(), 4000);
    let [large, link] = ["image/large", "image/etc/link"].map(|path| place.path(path).metadata().unwrap());
    assert_eq!((large.ino(), large.nlink()), (link.ino(), 2));
    let fifo = at("fifo").symlink_metadata().unwrap();
    assert!(fifo.file_type().is_fifo() && fifo.mode() & 0o7777 == 0o600);
    let device = at("device").symlink_metadata().unwrap();
    assert!(device.file_type().is_block_device() && device.rdev() == makedev(259, 0x12345));
    let mut found: Vec<String> = fs::read_dir(at("many"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found.first().unwrap(), "!");
    assert_eq!(found[1..], names);
    for name in &names {
        assert!(at("many").join(name).exists());
    }
    assert_eq!(place.path("image").metadata().unwrap().nlink(), 4);
}

#[test]
#[ignore = "needs root"]
fn marks_hide_what_is_below() {
    let place = Place::new();
    place.write("opaque/new", "new");
    set_attribute(&place.path("tree/opaque"), "trusted.overlay.opaque", b"y");
    let gone = place.path("tree/gone");
    mknod(&gone, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    let (_, image) = place.pack();
    let below = place.path("below");
    for path in ["opaque/old", "gone", "stays"] {
        fs::create_dir_all(below.join(path).parent().unwrap()).unwrap();
        fs::write(below.join(path), path).unwrap();
    }
    let mounted = place.mount(&image);
    let [target, objects] = ["merged", "objects"].map(|name| place.path(name));
    let data = format!(
        "lowerdir={}:{}::{},metacopy=on,redirect_dir=on",
        mounted.0.display(),
        below.display(),
        objects.display()
    );
    mount(Some("overlay"), &target, Some("overlay"), MsFlags::MS_RDONLY, Some(data.as_str())).unwrap();
    let merged = Mounted(target);
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(merged.0.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(""), ["opaque", "stays"]);
    assert_eq!(names("opaque"), ["new"]);
    assert_eq!(fs::read(merged.0.join("opaque/new")).unwrap(), b"new");
}

#[test]
#[ignore = "needs root"]
fn objects_are_named_by_their_contents_and_the_same_tree_gives_the_same_image() {
    let images = [["b", "a"], ["a", "b"]].map(|order| {
        let place = Place::new();
        for name in order {
            place.write(&format!("{name}/file"), "contents");
            place.write(&format!("{name}/other"), name);
        }
        for path in ["tree/a/file", "tree/a/other", "tree/b/file", "tree/b/other", "tree/a", "tree/b", "tree"]
        {
            File::open(place.path(path)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let (packed, image) = place.pack();
        assert_eq!(packed.objects, 3);
        // echo -n contents | sha256sum
        let object = "d1/b2a59fbea7e20077af9f91b27e95e865061b270be03ff539ab3b73587882e8";
        let object = place.path("objects").join(object);
        assert_eq!(fs::read(&object).unwrap(), b"contents");
        assert_eq!(object.metadata().unwrap().mode() & 0o7777, 0o600);
        image
    });
    assert!(images[0] == images[1]);
}

/// A tree with names and attributes of many lengths.
fn tree() -> Tree {
    let stat = nix::sys::stat::stat("/").unwrap();
    let node = |content, xattr_bytes| {
        let xattr = crate::xattrs::Xattr { name: c"user.x".to_owned(), value: vec![1; xattr_bytes] };
        let xattrs = if xattr_bytes > 0 { vec![xattr] } else { Vec::new() };
        Node::new(&stat, xattrs, content)
    };
    let mut tree = Tree::new(&stat, Vec::new());
    for number in 0..200 {
        let content = Content::Directory { names: Vec::new(), parent: Tree::ROOT };
        let dir = tree.add(Tree::ROOT, format!("{number}").as_bytes(), node(content, number * 30)).unwrap();
        for name in 0..number {
            let content = Content::Symlink(vec![b'x'; number * 20]);
            tree.add(dir, format!("{name:0>width$}", width = number % 200).as_bytes(), node(content, 0))
                .unwrap();
        }
    }
    tree
}

#[test]
fn nothing_overlaps_and_what_follows_an_inode_is_in_one_block() {
    let tree = tree();
    let layout = Layout::of(&tree).unwrap();
    let mut end = 1152;
    let mut block = layout.first_block;
    for (place, node) in layout.places.iter().zip(&tree.nodes) {
        assert!(place.at >= end && place.at % 32 == 0);
        let head = 64 + super::attributes::encode(node).unwrap().len() as u64;
        end = place.at + head + place.inline;
        let tail = place.at + head;
        assert!(place.inline == 0 || tail / 4096 == (end - 1) / 4096, "{place:?}");
        assert_eq!(place.block == 0, place.inline == place.size, "{place:?}");
        if place.block > 0 {
            assert_eq!(place.block, block);
            block += place.blocks();
        }
    }
    assert!(end <= layout.first_block * 4096);
    assert_eq!(block, layout.blocks);
}

#[test]
fn directories_are_as_long_as_is_said() {
    let tree = tree();
    for (id, node) in (0..).map(super::tree::NodeId).zip(&tree.nodes) {
        if let Content::Directory { names, parent } = &node.content {
            let bytes = directory::encode(&tree, id, names, *parent, |id| u64::from(id.0));
            assert_eq!(bytes.len() as u64, directory::size(id, names, *parent));
        }
    }
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let stat = nix::sys::stat::stat("/").unwrap();
    for (count, bytes) in [(1, 65_536), (5, 60_000)] {
        let xattr = |number| crate::xattrs::Xattr {
            name: std::ffi::CString::new(format!("user.{number}")).unwrap(),
            value: vec![0; bytes],
        };
        let tree = Tree::new(&stat, (0..count).map(xattr).collect());
        let error = super::write::write(&tree, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NotSupported);
    }
}
