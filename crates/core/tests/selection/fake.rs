//! Drivers that do nothing but note that they were asked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use graphdriver_core::{
    AdditionalLayers, Capabilities, CreateOptions, Dedup, DeferredRemoval, DiskUsage, Driver, DriverEntry,
    DriverHome, Error, ErrorKind, Feature, FileGetter, IdShift, LayerId, MountOptions, NativeDiff, Problem,
    Result, StagedApply,
};

#[derive(Default)]
struct Calls {
    made: Vec<String>,
    failing: BTreeMap<String, ErrorKind>,
}

thread_local! {
    // An entry has plain functions, so what they note cannot be in a value; each test has a thread of its own.
    static CALLS: RefCell<Calls> = RefCell::default();
}

/// Lets `probe NAME` or `open NAME` fail.
pub(crate) fn fail(call: &str, kind: ErrorKind) {
    CALLS.with_borrow_mut(|calls| calls.failing.insert(call.to_owned(), kind));
}

/// What was called since the last time this was asked.
pub(crate) fn calls() -> Vec<String> {
    CALLS.with_borrow_mut(|calls| std::mem::take(&mut calls.made))
}

pub(crate) const fn entry(names: &'static [&'static str], automatic: bool) -> DriverEntry {
    DriverEntry { names, automatic, probe, open }
}

fn probe(home: &DriverHome) -> Result<()> {
    note("probe", home)
}

fn open(home: &DriverHome) -> Result<Arc<dyn Driver>> {
    note("open", home)?;
    Ok(Arc::new(Fake(home.name().to_owned())))
}

fn note(call: &str, home: &DriverHome) -> Result<()> {
    let call = format!("{call} {}", home.name());
    CALLS.with_borrow_mut(|calls| {
        calls.made.push(call.clone());
        match calls.failing.get(&call) {
            Some(kind) => Err(Error::new(*kind, call).detail("as the test wants")),
            None => Ok(()),
        }
    })
}

#[derive(Debug)]
struct Fake(String);

/// What is no question of selection.
fn not_asked() -> ! {
    unreachable!("selection uses no driver")
}

impl Driver for Fake {
    fn name(&self) -> &str {
        &self.0
    }
    fn capabilities(&self) -> Capabilities {
        not_asked()
    }
    fn status(&self) -> Result<Vec<(String, String)>> {
        not_asked()
    }
    fn features(&self) -> Vec<Feature> {
        Vec::new()
    }
    fn options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    fn create(&self, _: &LayerId, _: &CreateOptions) -> Result<()> {
        not_asked()
    }
    fn create_from_template(&self, _: &LayerId, _: &LayerId, _: &CreateOptions) -> Result<()> {
        not_asked()
    }
    fn remove(&self, _: &LayerId) -> Result<()> {
        not_asked()
    }
    fn remove_deferred(&self, _: &LayerId) -> Result<DeferredRemoval> {
        not_asked()
    }
    fn get(&self, _: &LayerId, _: &MountOptions) -> Result<PathBuf> {
        not_asked()
    }
    fn put(&self, _: &LayerId) -> Result<()> {
        not_asked()
    }
    fn exists(&self, _: &LayerId) -> Result<bool> {
        not_asked()
    }
    fn check(&self, _: bool) -> Result<Vec<Problem>> {
        not_asked()
    }
    fn layers(&self) -> Result<Vec<LayerId>> {
        not_asked()
    }
    fn parent(&self, _: &LayerId) -> Result<Option<LayerId>> {
        not_asked()
    }
    fn metadata(&self, _: &LayerId) -> Result<BTreeMap<String, String>> {
        not_asked()
    }
    fn usage(&self, _: &LayerId) -> Result<DiskUsage> {
        not_asked()
    }
    fn cleanup(&self) -> Result<()> {
        not_asked()
    }
    fn image_stores(&self) -> Vec<PathBuf> {
        not_asked()
    }
    fn native_diff(&self) -> Option<&dyn NativeDiff> {
        not_asked()
    }
    fn id_shift(&self) -> Option<&dyn IdShift> {
        not_asked()
    }
    fn staged_apply(&self) -> Option<&dyn StagedApply> {
        not_asked()
    }
    fn additional_layers(&self) -> Option<&dyn AdditionalLayers> {
        not_asked()
    }
    fn file_getter(&self) -> Option<&dyn FileGetter> {
        not_asked()
    }
    fn dedup(&self) -> Option<&dyn Dedup> {
        not_asked()
    }
}
