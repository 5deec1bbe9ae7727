//! Layers under other ids than they have on disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use graphdriver_core::{Graph, IdMap, IdMaps};
use graphdriver_overlay::{IdMapping, OverlayTuning};

use super::{BOTH_WAYS, Store};

pub(crate) fn maps(host_id: u32) -> IdMaps {
    let range = vec![IdMap { container_id: 0, host_id, size: 1000 }];
    IdMaps::new(range.clone(), range).unwrap()
}

pub(crate) fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let stat = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{:?}: {error}", path.as_ref()));
    (stat.uid(), stat.gid())
}

/// Every way of mounting with every way of mapping.
pub(crate) fn each_way(test: impl Fn(&Store, &Graph)) {
    for api in BOTH_WAYS {
        for mapping in [IdMapping::Detached, IdMapping::Namespace] {
            let mut tuning = OverlayTuning::default();
            (tuning.mount_api, tuning.id_mapping) = (Some(api), Some(mapping));
            let store = Store::at("odd:name, with\\all");
            let graph = store.open_with(tuning);
            if !graph.capabilities().id_shifting {
                // Mounts attached nowhere came with Linux 6.15, those in a namespace work wherever any do.
                assert_eq!(mapping, IdMapping::Detached, "{:?}", graph.status());
                continue;
            }
            test(&store, &graph);
        }
    }
}
