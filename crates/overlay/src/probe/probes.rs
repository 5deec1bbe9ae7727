//! Asking for what was found, each thing at most once.

use std::path::{Path, PathBuf};

use graphdriver_core::{DriverHome, Result, TempDirs, fs_magic};
use nix::errno::Errno;
use parking_lot::Mutex;

use super::features::{Feature, Verdict};
use super::memory::{Circumstances, Memory};
use super::trial::Trial;
use super::{Scratch, Support, check_privilege, probe};
use crate::mount::{self, MountApi};
use crate::options::OverlayTuning;

/// What the kernel has for this home. How to mount is found out at once, the rest when it is asked for.
#[derive(Debug)]
pub(crate) struct Probes {
    support: Support,
    /// The kernel's overlay is not used.
    by_program: bool,
    trials: Trials,
    memory: Mutex<Memory>,
}

/// Where trials are made.
#[derive(Debug)]
struct Trials {
    /// On the file system of the home.
    temp_dirs: TempDirs,
    run_home: PathBuf,
}

impl Probes {
    /// Recalls, or tries, how to mount layers of a home whose temporary directories are `temp_dirs`. The run home is there.
    ///
    /// # Errors
    /// As [`probe`](super::probe()).
    pub(crate) fn open(place: &DriverHome, temp_dirs: &TempDirs, tuning: OverlayTuning) -> Result<Self> {
        check_privilege()?;
        let trials = Trials { temp_dirs: temp_dirs.clone(), run_home: place.run_home().to_owned() };
        let mut memory = Memory::recall(place.run_home(), Circumstances::of(place.home(), tuning)?);
        let support = if let Some(remembered) = memory.support().filter(still_holds) {
            remembered
        } else {
            let found = trials.run(&mut memory, |scratch| probe(scratch, tuning))?;
            let found = Support { backing: fs_magic(place.home())?, ..found };
            memory.set_support(found);
            found
        };
        Ok(Self { support, by_program: false, trials, memory: Mutex::new(memory) })
    }

    /// Where a program mounts, of which nothing is asked.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn with_program(
        place: &DriverHome,
        temp_dirs: &TempDirs,
        tuning: OverlayTuning,
    ) -> Result<Self> {
        let trials = Trials { temp_dirs: temp_dirs.clone(), run_home: place.run_home().to_owned() };
        let memory = Memory::recall(place.run_home(), Circumstances::of(place.home(), tuning)?);
        let support = super::with_program(place.home())?;
        Ok(Self { support, by_program: true, trials, memory: Mutex::new(memory) })
    }

    pub(crate) fn support(&self) -> Support {
        self.support
    }

    /// Whether the feature is there. Where that cannot be found out it is not, and the next who asks tries again.
    pub(crate) fn verdict(&self, feature: Feature) -> Verdict {
        self.find_out(feature)
            .unwrap_or_else(|error| Verdict::Off(format!("cannot be found out: {}", error.report())))
    }

    /// Whether the feature is there.
    ///
    /// # Errors
    /// What says nothing about the feature: `NoSpace`, `PermissionDenied`, `Io`.
    pub(crate) fn find_out(&self, feature: Feature) -> Result<Verdict> {
        if self.by_program {
            return Ok(Verdict::Off("layers are mounted by the mount program".to_owned()));
        }
        let mut memory = self.memory.lock();
        if let Some(known) = memory.verdict(feature) {
            return Ok(known.clone());
        }
        let dialect = self.support.dialect;
        let tried = self.trials.run(&mut memory, |scratch| feature.probe(&Trial::prepare(scratch)?, dialect));
        tracing::debug!(?feature, ?tried, "tried");
        if let Ok(verdict) = &tried {
            memory.set_verdict(feature, verdict.clone());
        }
        tried
    }
}

impl Trials {
    /// Runs `trial` in an empty directory: of the home, or where that cannot be written to of the run home, which mostly lies on another file system.
    /// What is found there is not to be remembered.
    fn run<T>(&self, memory: &mut Memory, trial: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        match self.temp_dirs.create() {
            Err(error) if error.errno() == Some(Errno::EROFS) => {
                memory.is_lasting = false;
                trial(Scratch::make(&self.run_home)?.path())
            }
            temp_dir => trial(temp_dir?.path()),
        }
    }
}

/// A sandbox may keep from this process what another one found.
fn still_holds(support: &Support) -> bool {
    support.dialect.api != MountApi::FsContext || mount::is_there()
}
