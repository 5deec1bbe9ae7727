//! User and group ids as a container sees them and as the host stores them.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The id that stands for "no mapping" (`/proc/sys/kernel/overflowuid`, 65534 unless an administrator changed it).
pub const OVERFLOW_ID: u32 = 65534;

/// One range of ids: `size` ids from `container_id` on are `host_id` and following on the host (`user_namespaces(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "IDMap")]
pub struct IdMap {
    /// First id inside the container.
    pub container_id: u32,
    /// First id on the host.
    pub host_id: u32,
    /// How many ids.
    pub size: u32,
}

impl IdMap {
    fn to_host(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container_id).filter(|offset| *offset < self.size)?;
        self.host_id.checked_add(offset)
    }

    fn to_container(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.host_id).filter(|offset| *offset < self.size)?;
        self.container_id.checked_add(offset)
    }
}

/// The user and group maps of a container; empty maps mean that ids are the same on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias = "IDMappings")]
#[doc(alias = "IdentityMapping")]
pub struct IdMaps {
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
}

/// An owner: user id and group id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "IDPair")]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl IdMaps {
    /// Maps from ranges of users and of groups.
    ///
    /// # Errors
    /// `InvalidArgument` when a range is empty, ends beyond 2^32 - 1, or overlaps another on either side.
    pub fn new(uids: Vec<IdMap>, gids: Vec<IdMap>) -> Result<Self> {
        check_ranges("user", &uids)?;
        check_ranges("group", &gids)?;
        Ok(Self { uids, gids })
    }

    /// Whether ids are the same on both sides.
    pub fn is_identity(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The user ranges.
    pub fn uids(&self) -> &[IdMap] {
        &self.uids
    }

    /// The group ranges.
    pub fn gids(&self) -> &[IdMap] {
        &self.gids
    }

    /// The owner on the host of what `owner` owns in the container; `None` when either id has no mapping.
    #[doc(alias = "ToHost")]
    pub fn to_host(&self, owner: Owner) -> Option<Owner> {
        Some(Owner {
            uid: find(&self.uids, owner.uid, IdMap::to_host)?,
            gid: find(&self.gids, owner.gid, IdMap::to_host)?,
        })
    }

    /// Like [`to_host`](Self::to_host), with [`OVERFLOW_ID`] in the place of an id without mapping.
    #[doc(alias = "ToHostOverflow")]
    pub fn to_host_or_overflow(&self, owner: Owner) -> Owner {
        Owner {
            uid: find(&self.uids, owner.uid, IdMap::to_host).unwrap_or(OVERFLOW_ID),
            gid: find(&self.gids, owner.gid, IdMap::to_host).unwrap_or(OVERFLOW_ID),
        }
    }

    /// The owner in the container of what `owner` owns on the host; `None` when either id has no mapping.
    #[doc(alias = "ToContainer")]
    pub fn to_container(&self, owner: Owner) -> Option<Owner> {
        Some(Owner {
            uid: find(&self.uids, owner.uid, IdMap::to_container)?,
            gid: find(&self.gids, owner.gid, IdMap::to_container)?,
        })
    }

    pub(crate) fn uid_to_container(&self, uid: u32) -> Option<u32> {
        find(&self.uids, uid, IdMap::to_container)
    }

    pub(crate) fn uid_to_host(&self, uid: u32) -> Option<u32> {
        find(&self.uids, uid, IdMap::to_host)
    }

    pub(crate) fn gid_to_host(&self, gid: u32) -> Option<u32> {
        find(&self.gids, gid, IdMap::to_host)
    }

    pub(crate) fn gid_to_container(&self, gid: u32) -> Option<u32> {
        find(&self.gids, gid, IdMap::to_container)
    }

    /// The host ids that own what the container's root owns. A map of one single id stands for that id, whatever its container side.
    ///
    /// # Errors
    /// `InvalidArgument` when the maps have no container id 0.
    #[doc(alias = "GetRootUIDGID")]
    #[doc(alias = "RootPair")]
    pub fn root(&self) -> Result<Owner> {
        Ok(Owner { uid: root_id("user", &self.uids)?, gid: root_id("group", &self.gids)? })
    }

    /// Whether each map is one run of ids without holes on both sides, in the same order.
    #[doc(alias = "IsContiguous")]
    pub fn is_contiguous(&self) -> bool {
        contiguous(&self.uids) && contiguous(&self.gids)
    }
}

fn find(ranges: &[IdMap], id: u32, map: fn(IdMap, u32) -> Option<u32>) -> Option<u32> {
    if ranges.is_empty() {
        return Some(id);
    }
    ranges.iter().find_map(|range| map(*range, id))
}

fn root_id(what: &str, ranges: &[IdMap]) -> Result<u32> {
    match ranges {
        [single] if single.size == 1 => Ok(single.host_id),
        _ => find(ranges, 0, IdMap::to_host).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "map ids")
                .detail(format!("the {what} map has no host id for container id 0"))
        }),
    }
}

fn contiguous(ranges: &[IdMap]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.host_id);
    sorted.windows(2).all(|pair| {
        let size = u64::from(pair[0].size);
        u64::from(pair[0].host_id) + size == u64::from(pair[1].host_id)
            && u64::from(pair[0].container_id) + size == u64::from(pair[1].container_id)
    })
}

fn check_ranges(what: &str, ranges: &[IdMap]) -> Result<()> {
    let invalid = |detail: String| Err(Error::new(ErrorKind::InvalidArgument, "map ids").detail(detail));
    for (index, range) in ranges.iter().enumerate() {
        let ends_within = |first: u32| first.checked_add(range.size).is_some();
        if range.size == 0 || !ends_within(range.container_id) || !ends_within(range.host_id) {
            return invalid(format!("{what} range {range:?} is empty or too long"));
        }
        let overlaps = |a: u32, a_size: u32, b: u32, b_size: u32| a < b + b_size && b < a + a_size;
        for other in &ranges[..index] {
            if overlaps(range.container_id, range.size, other.container_id, other.size)
                || overlaps(range.host_id, range.size, other.host_id, other.size)
            {
                return invalid(format!("{what} ranges {other:?} and {range:?} overlap"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMap {
        IdMap { container_id, host_id, size }
    }

    #[test]
    fn maps_both_ways_and_reports_what_has_no_mapping() {
        let maps =
            IdMaps::new(vec![map(0, 1000, 1), map(1, 100_000, 65535)], vec![map(0, 1000, 10)]).unwrap();
        let owner = Owner { uid: 5, gid: 9 };
        let host = Owner { uid: 100_004, gid: 1009 };
        assert_eq!(maps.to_host(owner), Some(host));
        assert_eq!(maps.to_container(host), Some(owner));
        assert_eq!(maps.to_host(Owner { uid: 5, gid: 10 }), None);
        assert_eq!(
            maps.to_host_or_overflow(Owner { uid: 5, gid: 10 }),
            Owner { uid: 100_004, gid: OVERFLOW_ID }
        );
        assert_eq!(maps.root().unwrap(), Owner { uid: 1000, gid: 1000 });
    }

    #[test]
    fn identity_maps_everything_to_itself() {
        let owner = Owner { uid: u32::MAX - 1, gid: 7 };
        assert_eq!(IdMaps::default().to_host(owner), Some(owner));
        assert_eq!(IdMaps::default().root().unwrap(), Owner::default());
    }

    #[test]
    fn root_of_a_single_id_map_is_that_id() {
        let maps = IdMaps::new(vec![map(7, 1000, 1)], vec![map(8, 1001, 1)]).unwrap();
        assert_eq!(maps.root().unwrap(), Owner { uid: 1000, gid: 1001 });
        assert!(IdMaps::new(vec![map(1, 1000, 2)], vec![]).unwrap().root().is_err());
    }

    #[test]
    fn contiguous_means_no_holes_on_either_side() {
        for (ranges, expected) in [
            (vec![], true),
            (vec![map(0, 1000, 1)], true),
            (vec![map(1, 1001, 9), map(0, 1000, 1)], true),
            (vec![map(0, 1000, 1), map(1, 2000, 9)], false),
            (vec![map(0, 1000, 1), map(2, 1001, 9)], false),
        ] {
            assert_eq!(IdMaps::new(ranges.clone(), vec![]).unwrap().is_contiguous(), expected, "{ranges:?}");
        }
    }

    #[test]
    fn refuses_empty_long_and_overlapping_ranges() {
        for ranges in [
            vec![map(0, 0, 0)],
            vec![map(1, 0, u32::MAX)],
            vec![map(0, 100, 10), map(5, 200, 10)],
            vec![map(0, 100, 10), map(20, 105, 10)],
        ] {
            assert!(IdMaps::new(ranges.clone(), vec![]).is_err(), "{ranges:?}");
        }
    }
}
