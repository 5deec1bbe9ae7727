//! What is exported and applied again is what it was.

use graphdriver_archive::whiteout::OverlayXattrs::Trusted;
use graphdriver_archive::{
    Applied, ApplyOptions, CompareOptions, Export, ExportOptions, IdMap, IdMaps, LayerStack, WhiteoutMode,
    apply, changes,
};

use crate::export::odd_tree;
use crate::support::{Tree, printed, snapshot};

fn applied(mut export: Export, to: &Tree, options: &ApplyOptions) -> Applied {
    apply(&to.root(), &mut export, options).unwrap()
}

#[test]
fn a_tree() {
    let (tree, copy) = (odd_tree(), Tree::new());
    let export = Export::tree(&tree.root(), ExportOptions::default()).unwrap();
    applied(export, &copy, &ApplyOptions::default());
    assert_eq!(snapshot(&copy.path("")), snapshot(&tree.path("")));
}

#[test]
fn the_changes_between_two_trees() {
    let (new, old) = (odd_tree(), Tree::new());
    old.file("gone", "")
        .file("gone-dir/below/x", "")
        .file("empty", "not empty")
        .dir("bits")
        .file("sticky", "a file");
    old.file("deep/deep/deep/gone", "")
        .file("a-first-name", "alone")
        .symlink("dangling", "elsewhere")
        .settle();
    let found = changes(&new.root(), Some(&old.root()), &CompareOptions::default()).unwrap();
    assert!(printed(&found).contains(&"D /gone-dir".to_owned()));
    let export = Export::changes(&new.root(), found, ExportOptions::default()).unwrap();
    applied(export, &old, &ApplyOptions::default());
    assert_eq!(snapshot(&old.path("")), snapshot(&new.path("")));
    assert_eq!(changes(&new.root(), Some(&old.root()), &CompareOptions::default()).unwrap(), []);
}

#[test]
#[ignore = "needs root"]
fn an_overlay_layer() {
    let (lower, upper, copy) = (Tree::new(), Tree::new(), Tree::new());
    lower.file("over/old", "").file("dir/gone", "");
    upper.file("over/x", "").dir("dir").whiteout("dir/gone").whiteout("top").file("new/x", "");
    upper.xattr("over", "trusted.overlay.opaque", b"y").settle().time("dir/gone", 0, 0).time("top", 0, 0);
    let export = Export::layer(
        &LayerStack::overlay(vec![upper.root(), lower.root()], Trusted),
        1,
        ExportOptions::default(),
    );
    let options = ApplyOptions { whiteouts: WhiteoutMode::Overlay(Trusted), ..ApplyOptions::default() };
    applied(export, &copy, &options);
    for whiteout in ["dir/gone", "top"] {
        // Of a whiteout only its being there counts.
        copy.time(whiteout, 0, 0).mode(whiteout, 0o600);
    }
    copy.time("dir", 1_600_000_000, 123_456_789);
    assert_eq!(snapshot(&copy.path("")), snapshot(&upper.path("")));
}

#[test]
#[ignore = "needs root"]
fn owners_and_the_ids_in_attributes_through_maps() {
    let (tree, copy) = (Tree::new(), Tree::new());
    tree.file("file", "").mode("file", 0o750);
    let entry = |tag: u8, id: u32| [&[tag, 0, 6, 0][..], &id.to_le_bytes()].concat();
    let acl = |user: u32| {
        let none = u32::MAX;
        [vec![2, 0, 0, 0], entry(1, none), entry(2, user), entry(4, none), entry(16, none), entry(32, none)]
            .concat()
    };
    std::os::unix::fs::chown(tree.path("file"), Some(100_005), Some(100_006)).unwrap();
    tree.xattr("file", "system.posix_acl_access", &acl(100_007)).settle();
    let maps = |host_id: u32| {
        let map = vec![IdMap { container_id: 0, host_id, size: 65536 }];
        IdMaps::new(map.clone(), map).unwrap()
    };
    let export = Export::tree(&tree.root(), ExportOptions { id_maps: maps(100_000) }).unwrap();
    applied(export, &copy, &ApplyOptions { id_maps: maps(200_000), ..ApplyOptions::default() });
    std::os::unix::fs::chown(tree.path("file"), Some(200_005), Some(200_006)).unwrap();
    tree.xattr("file", "system.posix_acl_access", &acl(200_007));
    assert_eq!(snapshot(&copy.path("")), snapshot(&tree.path("")));
}
