//! A home that is open: what all operations on its layers share.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use graphdriver_archive::{LayerStack, RootDir};
use graphdriver_core::{
    DriverHome, Error, FsMagic, FsMagicChecker, HomeLock, LayerQuotas, RefCounter, Result, TempDirs,
    remove_stale_staging_dirs,
};
use nix::errno::Errno;

use crate::composefs;
use crate::home_form::HomeForm;
use crate::ids::{self, Shifting};
use crate::layout::{Layout, TEMP_DIRS};
use crate::link;
use crate::mount_program::{self, MountProgram};
use crate::options::{OverlayOptions, OverlayTuning};
use crate::probe::{self, Feature, Probes, Scratch, Support, Verdict};
use crate::stores::Stores;

/// In the run home: who uses which mount.
const REFERENCES: &str = ".references";

/// A home that is open.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) stores: Stores,
    pub(crate) options: OverlayOptions,
    /// What mounts instead of the kernel.
    pub(crate) mount_program: Option<MountProgram>,
    pub(crate) tuning: OverlayTuning,
    /// Why diffs are not to be read from the layers' directories, if so.
    no_native_diff: Option<&'static str>,
    pub(crate) support: Support,
    pub(crate) shifting: Shifting,
    pub(crate) quotas: LayerQuotas,
    pub(crate) probes: Probes,
    pub(crate) temp_dirs: TempDirs,
    /// Those of the store for read-only layers, where that is not the home.
    image_temp_dirs: Option<TempDirs>,
    pub(crate) references: RefCounter,
}

impl Home {
    /// Makes what is missing of the home, removes what killed processes left, and finds out how to mount here.
    pub(crate) fn open(place: &DriverHome, tuning: OverlayTuning) -> Result<Self> {
        let options = OverlayOptions::parse(place.options())?;
        options.check_supported()?;
        let mut stores = Stores::new(place, &options);
        let home = stores.home();
        if !home.links().is_dir() {
            HomeForm::of(home.path())?.require_stacked(home.path())?;
            // A home that cannot be used must not be made: it would count as the driver that was chosen here.
            try_beside(place, &options, tuning)?;
            make_dirs(&home.links())?;
        }
        let unclean = stores.own().any(has_temp_dirs);
        let quotas = LayerQuotas::open(home.path(), home.path(), options.quota)?;
        let temp_dirs = remove_leftovers(home)?;
        let image_temp_dirs = open_image_store(&mut stores)?;
        mount_program::settle(&stores, &temp_dirs, options.mount_program.as_deref())?;
        // Mount programs are servers of FUSE.
        let checker = FsMagicChecker::new([FsMagic::OVERLAY, FsMagic::FUSE]);
        // Makes the run home, too.
        let references = RefCounter::new(Box::new(checker), place.run_home().join(REFERENCES))?;
        let probes = match options.mount_program {
            Some(_) => Probes::with_program(place, &temp_dirs, tuning)?,
            None => Probes::open(place, &temp_dirs, tuning)?,
        };
        let support = probes.support();
        options.check_mounts(support.dialect)?;
        composefs::check(&options, &probes, tuning.id_mapping)?;
        let shifting = if options.disable_idmap {
            Shifting::disabled()
        } else if options.mount_program.is_some() {
            Shifting::by_program()
        } else {
            Shifting::find(&probes, tuning.id_mapping)
        };
        let program = options.mount_program.clone();
        let mount_program = program.map(|program| MountProgram::new(program, place.home().to_owned()));
        let home = Self {
            stores,
            options,
            mount_program,
            tuning,
            no_native_diff: (!tuning.native_diff).then_some("it was switched off when the home was opened"),
            support,
            shifting,
            quotas,
            probes,
            temp_dirs,
            image_temp_dirs,
            references,
        };
        if unclean {
            ids::finish_all(&home)?;
        }
        Ok(home)
    }

    /// Why diffs compare mounted layers instead of reading the layers' directories; `None` when they need not.
    pub(crate) fn no_native_diff(&self) -> Option<String> {
        match (self.no_native_diff, &self.mount_program) {
            (Some(reason), _) => Some(reason.to_owned()),
            (None, Some(_)) => None,
            (None, None) => match self.probes.find_out(Feature::TrueOpaqueMarks) {
                Ok(Verdict::Off(reason)) => Some(reason),
                // That space for a trial is wanting says nothing of the kernel.
                Ok(Verdict::On) | Err(_) => None,
            },
        }
    }

    /// The directories, uppermost first, as what mounts them here understands their marks.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn stack(&self, directories: Vec<RootDir>) -> Result<LayerStack> {
        match self.mount_program {
            Some(_) => Ok(LayerStack::fuse_overlay(directories)?),
            None => Ok(LayerStack::overlay(directories, self.support.dialect.xattrs)),
        }
    }

    /// The temporary directories from which and into which layers of `store` are renamed.
    pub(crate) fn temp_dirs_of(&self, store: &Layout) -> &TempDirs {
        match &self.image_temp_dirs {
            Some(temp_dirs) if self.stores.image().is_some_and(|image| image.path() == store.path()) => {
                temp_dirs
            }
            _ => &self.temp_dirs,
        }
    }
}

/// Makes what is missing of the store for read-only layers, and removes what killed processes left there.
fn open_image_store(stores: &mut Stores) -> Result<Option<TempDirs>> {
    if let Some(image) = stores.image() {
        make_dirs(&image.links())?;
    }
    stores.drop_alias()?;
    stores.image().map(remove_leftovers).transpose()
}

/// Removes the links that killed processes left, and then their temporary directories, by which such links are known.
pub(crate) fn remove_leftovers(store: &Layout) -> Result<TempDirs> {
    if has_temp_dirs(store) {
        match HomeLock::exclusive(store.path()) {
            // Nothing can be removed, and the layers can be read all the same.
            Err(error) if error.errno() == Some(Errno::EROFS) => {}
            lock => {
                let _lock = lock?;
                link::remove_dangling(store)?;
            }
        }
    }
    if let Err(error) = remove_stale_staging_dirs(store.path()) {
        tracing::warn!(error = %error.report(), "leftovers of another program stay");
    }
    TempDirs::open(store.path())
}

/// Whether a process is making, changing or removing layers, or was killed while it did.
fn has_temp_dirs(store: &Layout) -> bool {
    let entries = fs::read_dir(store.path().join(TEMP_DIRS));
    entries.is_ok_and(|mut entries| entries.next().is_some())
}

/// Tells whether a driver could be opened with `place`, without making the home.
///
/// # Errors
/// As [`probe::probe`]; `InvalidArgument` for wrong options.
pub(crate) fn probe(place: &DriverHome) -> Result<()> {
    let options = OverlayOptions::parse(place.options())?;
    options.check_supported()?;
    HomeForm::of(place.home())?.require_stacked(place.home())?;
    try_beside(place, &options, OverlayTuning::default())
}

/// Probes where the home is or is to be.
fn try_beside(place: &DriverHome, options: &OverlayOptions, tuning: OverlayTuning) -> Result<()> {
    // First, because without it the directory could not be made either, which would be told instead.
    if options.mount_program.is_none() {
        probe::check_privilege()?;
    }
    LayerQuotas::probe(place.nearest_dir(), options.quota)?;
    let scratch = Scratch::make(place.nearest_dir())?;
    match options.mount_program {
        Some(_) => probe::with_program(scratch.path()).map(drop),
        None => probe::probe(scratch.path(), tuning).map(drop),
    }
}

/// Makes a directory and those above it, as far as they are missing.
fn make_dirs(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| Error::io("mkdir", path, error))
}
