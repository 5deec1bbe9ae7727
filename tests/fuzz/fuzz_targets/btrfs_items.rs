//! What the kernel finds in the trees of a btrfs, and what is in the items there.

#![no_main]

use graphdriver_sys::btrfs::item::{self, Inode, Origin};
use graphdriver_sys::btrfs::search::Item;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok((item, length)) = Item::parse(rest) {
        rest = &rest[length..];
        let names = item::names(item).filter_map(Result::ok);
        assert!(names.map(|name| name.name.len()).sum::<usize>() <= item.data.len());
        if let Ok(name) = item::subvolume_name(item.data) {
            assert!(!name.name.is_empty() && !name.name.contains(&b'/'));
        }
        let _ = (Inode::parse(item.data), Origin::parse(item.data));
        assert_eq!(item::subvolume_ids(item.data).count(), item.data.len() / 8);
    }
});
