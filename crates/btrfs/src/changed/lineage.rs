//! When two subvolumes were one.

use std::os::fd::{AsFd, BorrowedFd};

use graphdriver_sys::btrfs::item::{self, Origin};
use graphdriver_sys::btrfs::search::{Buffer, Key, ROOT_TREE, Range, Search, UUID_TREE};
use graphdriver_sys::btrfs::subvolume::{SubvolumeInfo, Uuid};
use nix::Result;

/// More snapshots of snapshots than anybody makes. What the disk says is not trusted to have an end.
const MAX_ANCESTORS: usize = 100_000;

/// The last transaction at whose end all that either of the subvolumes has from then was the same, since they were one subvolume or snapshots of it; `None` when they never were. `fs` is any file of the file system.
///
/// Subvolumes between the two must still be there, or nothing tells where they came from.
pub(super) fn parted_at(fs: impl AsFd, subvolumes: &[SubvolumeInfo; 2]) -> Result<Option<u64>> {
    let fs = fs.as_fd();
    let [one, other] = subvolumes;
    let (one, other) = (ancestors(fs, one)?, ancestors(fs, other)?);
    let parted = one.iter().find_map(|ancestor| {
        let same = other.iter().find(|other| other.uuid == ancestor.uuid)?;
        Some(ancestor.left_at.min(same.left_at))
    });
    // A subvolume never leaves itself.
    Ok(parted.filter(|transaction| *transaction < u64::MAX))
}

/// A subvolume, and the transaction that made the snapshot of it that leads to the one in question.
struct Ancestor {
    uuid: Uuid,
    left_at: u64,
}

/// The subvolume itself, what it is a snapshot of, what that is a snapshot of, and so on, as far as that is known.
fn ancestors(fs: BorrowedFd<'_>, info: &SubvolumeInfo) -> Result<Vec<Ancestor>> {
    let mut found = vec![Ancestor { uuid: info.uuid, left_at: u64::MAX }];
    let mut next = info.parent.map(|parent| (parent, info.created_at));
    while let Some((uuid, left_at)) = next
        && found.len() < MAX_ANCESTORS
    {
        found.push(Ancestor { uuid, left_at });
        next = origin(fs, uuid)?.and_then(|origin| Some((origin.parent?, origin.created_at)));
    }
    Ok(found)
}

/// Where the subvolume of an identity comes from; `None` when it is gone.
fn origin(fs: BorrowedFd<'_>, uuid: Uuid) -> Result<Option<Origin>> {
    let mut buffer = Buffer::new();
    let key = item::uuid_key(uuid);
    let entry = Range { tree: UUID_TREE, first: key, last: key, since: 0 };
    let ids: Vec<u64> = match Search::new(fs, entry, &mut buffer).next_item()? {
        Some(found) => item::subvolume_ids(found.data).collect(),
        None => return Ok(None),
    };
    for id in ids {
        let key = |offset| Key { object: id, item_type: item::ROOT_ITEM, offset };
        let root = Range { tree: ROOT_TREE, first: key(0), last: key(u64::MAX), since: 0 };
        // One of another layout than today's says nothing.
        if let Some(found) = Search::new(fs, root, &mut buffer).next_item()?
            && let Ok(origin) = Origin::parse(found.data)
            && origin.uuid == uuid
        {
            return Ok(Some(origin));
        }
    }
    Ok(None)
}
