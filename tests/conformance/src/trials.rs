//! Which trials there are, and how one is run.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use graphdriver_sys::xattr::{self, SetFlags};
use libtest_mimic::{Completion, Failed, Trial};
use nix::errno::Errno;

use crate::backing::{Backing, Stage};
use crate::cases::{self, Case};
use crate::configuration::{Configuration, Driver};
use crate::needs::{self, Need, Privilege};
use crate::selection::Selection;
use crate::store::Store;
use crate::{user_namespace, zfs};

/// A case under one configuration.
#[derive(Clone, Copy)]
pub struct Experiment {
    pub configuration: &'static Configuration,
    pub backing: Backing,
    pub case: &'static Case,
}

impl Experiment {
    fn each() -> impl Iterator<Item = Self> {
        let configured = Configuration::ALL.iter().flat_map(|configuration| {
            let backings = Backing::ALL.into_iter().filter(|backing| configuration.is_tried_on(*backing));
            backings.map(move |backing| (configuration, backing))
        });
        configured.flat_map(|(configuration, backing)| {
            let cases = cases::ALL.iter().filter(move |case| {
                let fits = case.applies(configuration) && (case.runs_on)(backing);
                fits && (!case.once || backing == configuration.simplest())
            });
            cases.map(move |case| Self { configuration, backing, case })
        })
    }

    /// `overlay-native/ext4/deep_layer_read`.
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.configuration.name, self.backing.name(), self.case.name)
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::each().find(|experiment| experiment.name() == name)
    }

    fn run(&self, stage: &Stage) -> Result<(), Outcome> {
        let privilege = if self.configuration.in_user_namespace {
            user_namespace::privilege()
        } else {
            Privilege::here()
        };
        let lacking = privilege.lacking(self.configuration.needs.max(self.case.needs));
        lacking.map_or(Ok(()), |need| Err(Outcome::Lacks(need)))?;
        if let Some(program) = self.configuration.program
            && !Path::new("/usr/bin").join(program).exists()
        {
            return Err(Outcome::Lacks(Need::Program(program)));
        }
        if self.configuration.keeps_images && needs::linux() < (6, 5) {
            let what = "data-only lowers of overlay (Linux 6.5)".to_owned();
            return Err(Outcome::Lacks(Need::Kernel(what)));
        }
        if self.configuration.driver == Driver::Aufs && !needs::has_file_system("aufs") {
            return Err(Outcome::Lacks(Need::Kernel("AUFS".to_owned())));
        }
        #[cfg(feature = "libzfs")]
        if self.configuration.by_libzfs
            && let Err(reason) = graphdriver_sys::libzfs::Libzfs::load()
        {
            return Err(Outcome::Lacks(Need::Kernel(format!("a ZFS whose library is known: {reason}"))));
        }
        let dir = self.new_directory(stage).map_err(Outcome::Lacks)?;
        if (self.configuration.user_xattrs || self.case.user_xattrs) && !has_user_xattrs(dir.path()) {
            let what =
                format!("no user.* attributes on {} (tmpfs has them since Linux 6.6)", self.backing.name());
            return Err(Outcome::Lacks(Need::Kernel(what)));
        }
        if self.configuration.in_user_namespace {
            return user_namespace::run(&self.name(), dir.path());
        }
        self.run_in(dir.path().to_owned()).map_err(Outcome::Lacks)
    }

    /// Runs the case in an empty directory. The directory is empty again afterwards.
    pub fn run_in(&self, dir: PathBuf) -> Result<(), Need> {
        let store = Store::open(self, dir)?;
        (self.case.run)(&store);
        store.finish();
        Ok(())
    }

    fn new_directory(&self, stage: &Stage) -> Result<Directory, Need> {
        let prefix = format!("{}-{}-", self.configuration.name, self.case.name);
        let root = stage.root(self.backing)?;
        if self.backing == Backing::Zfs {
            return Ok(Directory::Dataset(zfs::CaseDataset::new(root, &prefix)));
        }
        Ok(Directory::Plain(tempfile::Builder::new().prefix(&prefix).tempdir_in(root).unwrap()))
    }
}

/// An empty directory for one case, removed at its end.
enum Directory {
    Plain(tempfile::TempDir),
    Dataset(zfs::CaseDataset),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Plain(dir) => dir.path(),
            Self::Dataset(dataset) => dataset.path(),
        }
    }
}

/// Whether attributes of the namespace `user` can be set on files in `dir`, tried on the directory itself.
fn has_user_xattrs(dir: &Path) -> bool {
    let dir = File::open(dir).unwrap();
    match xattr::fset(&dir, "user.probe", b"", SetFlags::empty()) {
        Err(Errno::EOPNOTSUPP) => false,
        result => {
            result.unwrap();
            xattr::fremove(&dir, "user.probe").unwrap();
            true
        }
    }
}

/// How a trial can end other than well.
pub enum Outcome {
    Lacks(Need),
    Fails(String),
}

pub fn all(selection: &Selection, stage: &Arc<Stage>, ignored: &Arc<Ignored>, strict: bool) -> Vec<Trial> {
    let trial = |experiment: Experiment| {
        let (stage, ignored) = (Arc::clone(stage), Arc::clone(ignored));
        Trial::ignorable_test(experiment.name(), move || match experiment.run(&stage) {
            Ok(()) => Ok(Completion::Completed),
            Err(Outcome::Lacks(need)) if strict && !need.is_of_kernel() => Err(Failed::from(need)),
            Err(Outcome::Lacks(need)) => {
                ignored.note(&need, experiment.name());
                Ok(Completion::ignored_with(need))
            }
            Err(Outcome::Fails(message)) => Err(Failed::from(message)),
        })
    };
    Experiment::each().filter(|experiment| selection.contains(experiment)).map(trial).collect()
}

/// The trials that did not run, by what they lacked.
#[derive(Default)]
pub struct Ignored {
    by_need: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Ignored {
    fn note(&self, need: &Need, name: String) {
        let mut by_need = self.by_need.lock().unwrap_or_else(PoisonError::into_inner);
        by_need.entry(need.to_string()).or_default().push(name);
    }

    /// Lists them, so that a run that passed does not hide what it left out.
    pub fn print(&self) {
        let by_need = self.by_need.lock().unwrap_or_else(PoisonError::into_inner);
        for (need, names) in by_need.iter() {
            println!("ignored: {need} ({} trials)", names.len());
            let mut configurations: Vec<&str> =
                names.iter().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
            configurations.sort_unstable();
            configurations.dedup();
            println!("    {}", configurations.join(" "));
        }
    }
}
