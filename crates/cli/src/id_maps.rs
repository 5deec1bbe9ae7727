//! Ids of a container as options give them.

use graphdriver::{Error, IdMap, IdMaps};

use crate::args::Ids;

impl Ids {
    /// The maps that were asked for; none if there were no options. Where only one kind was given it counts for both, as with podman.
    pub(crate) fn maps(&self) -> Result<IdMaps, Error> {
        let (uids, gids) = match (&*self.uids, &*self.gids) {
            (uids, []) => (uids, uids),
            ([], gids) => (gids, gids),
            both => both,
        };
        Ok(IdMaps::new(uids.to_vec(), gids.to_vec())?)
    }
}

/// `CONTAINER:HOST:SIZE`.
pub(crate) fn parse(text: &str) -> Result<IdMap, String> {
    let numbers: Vec<u32> = text
        .split(':')
        .map(|number| number.parse().map_err(|_| format!("{number:?} is no number below 2^32")))
        .collect::<Result<_, _>>()?;
    match *numbers {
        [_, _, 0] => Err("the size is zero".to_owned()),
        [container_id, host_id, size] => Ok(IdMap { container_id, host_id, size }),
        _ => Err("is not CONTAINER:HOST:SIZE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse("0:100000:65536"), Ok(IdMap { container_id: 0, host_id: 100_000, size: 65_536 }));
        for text in ["", "0", "0:1", "0:1:2:3", "0:1:0", "0:-1:2", "0:x:2", "0:1:4294967296", "0: 1:2"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_kind_counts_for_both() {
        let [users, groups] = ["0:100000:10", "0:200000:10"].map(|text| parse(text).unwrap());
        let maps = |uids: &[IdMap], gids: &[IdMap]| {
            let maps = Ids { uids: uids.to_vec(), gids: gids.to_vec() }.maps().unwrap();
            (maps.uids().to_vec(), maps.gids().to_vec())
        };
        assert_eq!(maps(&[], &[]), (vec![], vec![]));
        assert_eq!(maps(&[users], &[]), (vec![users], vec![users]));
        assert_eq!(maps(&[], &[groups]), (vec![groups], vec![groups]));
        assert_eq!(maps(&[users], &[groups]), (vec![users], vec![groups]));
        assert!(Ids { uids: vec![users, users], gids: vec![] }.maps().is_err(), "overlapping ranges");
    }
}
