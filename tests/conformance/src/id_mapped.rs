//! A driver that mounts every layer through id maps.
//!
//! The maps give each id itself, so that all that the suite expects of owners holds, and the mounts are made in the way of any other maps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_archive::{DiskUsage, IdMap, IdMaps};
use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DeferredRemoval, Driver, Feature, FileGetter,
    IdShift, LayerId, MountOptions, NativeDiff, Problem, Result, StagedApply,
};

#[derive(Debug)]
pub struct IdMapped(pub Arc<dyn Driver>);

impl Driver for IdMapped {
    fn get(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf> {
        let every_id = vec![IdMap { container_id: 0, host_id: 0, size: u32::MAX }];
        let id_maps = IdMaps::new(every_id.clone(), every_id)?;
        self.0.get(id, &MountOptions { id_maps, ..options.clone() })
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        self.0.status()
    }

    fn features(&self) -> Vec<Feature> {
        self.0.features()
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        self.0.options()
    }

    fn create(&self, id: &LayerId, options: &CreateOptions) -> Result<()> {
        self.0.create(id, options)
    }

    fn create_from_template(&self, id: &LayerId, template: &LayerId, options: &CreateOptions) -> Result<()> {
        self.0.create_from_template(id, template, options)
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        self.0.remove(id)
    }

    fn remove_deferred(&self, id: &LayerId) -> Result<DeferredRemoval> {
        self.0.remove_deferred(id)
    }

    fn put(&self, id: &LayerId) -> Result<()> {
        self.0.put(id)
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        self.0.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerId>> {
        self.0.layers()
    }

    fn parent(&self, id: &LayerId) -> Result<Option<LayerId>> {
        self.0.parent(id)
    }

    fn metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>> {
        self.0.metadata(id)
    }

    fn usage(&self, id: &LayerId) -> Result<DiskUsage> {
        self.0.usage(id)
    }

    fn cleanup(&self) -> Result<()> {
        self.0.cleanup()
    }

    fn check(&self, repair: bool) -> Result<Vec<Problem>> {
        self.0.check(repair)
    }

    fn image_stores(&self) -> Vec<PathBuf> {
        self.0.image_stores()
    }

    fn native_diff(&self) -> Option<&dyn NativeDiff> {
        self.0.native_diff()
    }

    fn id_shift(&self) -> Option<&dyn IdShift> {
        self.0.id_shift()
    }

    fn staged_apply(&self) -> Option<&dyn StagedApply> {
        self.0.staged_apply()
    }

    fn additional_layers(&self) -> Option<&dyn AdditionalLayers> {
        self.0.additional_layers()
    }

    fn file_getter(&self) -> Option<&dyn FileGetter> {
        self.0.file_getter()
    }

    fn dedup(&self) -> Option<&dyn Dedup> {
        self.0.dedup()
    }
}
