//! What was found before, by this process or another, kept in a file of the run home.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, FsMagic, Result, fs_magic, write_atomic};
use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};

use super::features::{Feature, Verdict};
use super::{Support, in_initial_namespace};
use crate::mount::{Dialect, MountApi};
use crate::options::OverlayTuning;

/// In the run home. The programs that share it remember in files of their own.
const NAME: &str = ".probed.json";

/// What a finding depends on; another kernel, another boot or another file system says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Circumstances {
    /// Of this crate, whose later versions may look closer.
    version: String,
    kernel: String,
    boot: String,
    device: u64,
    file_system: u32,
    initial_user_namespace: bool,
    /// The way of mounting that was chosen, if one was.
    mount_api: Option<Api>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Api {
    FsContext,
    Mount,
}

/// The contents of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    circumstances: Circumstances,
    mounting: Mounting,
    features: BTreeMap<Feature, Verdict>,
}

/// A [`Support`] without what follows from the circumstances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mounting {
    api: Api,
    switches: bool,
    volatile: bool,
    user_namespace: bool,
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    circumstances: Circumstances,
    known: Option<(Mounting, BTreeMap<Feature, Verdict>)>,
    /// Whether others may learn of what is found from now on.
    pub(super) is_lasting: bool,
}

impl Circumstances {
    pub(super) fn of(home: &Path, tuning: OverlayTuning) -> Result<Self> {
        let failed = |call, path: &str| {
            let path = path.to_owned();
            move |error| Error::io(call, path, error)
        };
        let boot_id = "/proc/sys/kernel/random/boot_id";
        let names = uname().map_err(|errno| Error::call("uname", errno))?;
        let device = fs::metadata(home).map_err(|error| Error::io("stat", home, error))?.dev();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: names.release().to_string_lossy().into_owned(),
            boot: fs::read_to_string(boot_id).map_err(failed("read", boot_id))?.trim().to_owned(),
            device,
            file_system: fs_magic(home)?.0,
            initial_user_namespace: in_initial_namespace()?,
            mount_api: tuning.mount_api.map(Api::from),
        })
    }
}

impl Memory {
    /// What the file in `run_home` says; nothing when it is of other circumstances, damaged or not there.
    pub(super) fn recall(run_home: &Path, circumstances: Circumstances) -> Self {
        let path = run_home.join(NAME);
        let known = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice::<Contents>(&text).ok())
            .filter(|contents| contents.circumstances == circumstances)
            .map(|contents| (contents.mounting, contents.features));
        Self { path, circumstances, known, is_lasting: true }
    }

    pub(super) fn support(&self) -> Option<Support> {
        let (mounting, _) = self.known.as_ref()?;
        let initial = self.circumstances.initial_user_namespace;
        Some(Support {
            backing: FsMagic(self.circumstances.file_system),
            dialect: Dialect {
                api: mounting.api.into(),
                switches: mounting.switches,
                volatile: mounting.volatile,
                xattrs: if initial { OverlayXattrs::Trusted } else { OverlayXattrs::User },
            },
            user_namespace: mounting.user_namespace,
        })
    }

    pub(super) fn verdict(&self, feature: Feature) -> Option<&Verdict> {
        self.known.as_ref()?.1.get(&feature)
    }

    /// Remembers how to mount, and forgets all else.
    pub(super) fn set_support(&mut self, support: Support) {
        let mounting = Mounting {
            api: support.dialect.api.into(),
            switches: support.dialect.switches,
            volatile: support.dialect.volatile,
            user_namespace: support.user_namespace,
        };
        self.known = Some((mounting, BTreeMap::new()));
        self.save();
    }

    pub(super) fn set_verdict(&mut self, feature: Feature, verdict: Verdict) {
        if let Some((_, known)) = &mut self.known {
            known.insert(feature, verdict);
            self.save();
        }
    }

    /// What cannot be remembered is found out again the next time.
    fn save(&self) {
        if !self.is_lasting {
            return;
        }
        if let Err(error) = self.write() {
            tracing::debug!(error = %error.report(), "what was found about overlay is not remembered");
        }
    }

    fn write(&self) -> Result<()> {
        let Some((mounting, features)) = &self.known else { return Ok(()) };
        let contents = Contents {
            circumstances: self.circumstances.clone(),
            mounting: *mounting,
            features: features.clone(),
        };
        let text =
            serde_json::to_vec(&contents).map_err(|error| Error::io("encode", &self.path, error.into()))?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        write_atomic(File::open(dir).map_err(|error| Error::io("open", dir, error))?, NAME, &text, 0o600)
    }
}

impl From<MountApi> for Api {
    fn from(api: MountApi) -> Self {
        match api {
            MountApi::FsContext => Self::FsContext,
            MountApi::Mount => Self::Mount,
        }
    }
}

impl From<Api> for MountApi {
    fn from(api: Api) -> Self {
        match api {
            Api::FsContext => Self::FsContext,
            Api::Mount => Self::Mount,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circumstances() -> Circumstances {
        Circumstances {
            version: "1".into(),
            kernel: "6.1".into(),
            boot: "b".into(),
            device: 7,
            file_system: FsMagic::EXT.0,
            initial_user_namespace: true,
            mount_api: None,
        }
    }

    fn support() -> Support {
        let dialect =
            Dialect { api: MountApi::Mount, switches: true, volatile: false, xattrs: OverlayXattrs::Trusted };
        Support { backing: FsMagic::EXT, dialect, user_namespace: true }
    }

    fn remember(run_home: &Path) -> Memory {
        let mut memory = Memory::recall(run_home, circumstances());
        assert!(memory.support().is_none());
        memory.set_support(support());
        memory.set_verdict(Feature::Metacopy, Verdict::Off("no".into()));
        memory
    }

    #[test]
    fn what_was_written_is_read() {
        let run_home = tempfile::tempdir().unwrap();
        remember(run_home.path());
        let memory = Memory::recall(run_home.path(), circumstances());
        let found = memory.support().unwrap();
        assert_eq!((found.backing, found.dialect), (FsMagic::EXT, support().dialect));
        assert!(found.user_namespace);
        assert_eq!(memory.verdict(Feature::Metacopy), Some(&Verdict::Off("no".into())));
        assert_eq!(memory.verdict(Feature::Index), None);
    }

    #[test]
    fn other_circumstances_are_unknown() {
        let run_home = tempfile::tempdir().unwrap();
        remember(run_home.path());
        let others = [
            Circumstances { version: "2".into(), ..circumstances() },
            Circumstances { kernel: "6.2".into(), ..circumstances() },
            Circumstances { boot: "c".into(), ..circumstances() },
            Circumstances { device: 8, ..circumstances() },
            Circumstances { file_system: FsMagic::XFS.0, ..circumstances() },
            Circumstances { initial_user_namespace: false, ..circumstances() },
            Circumstances { mount_api: Some(Api::Mount), ..circumstances() },
        ];
        for other in others {
            let memory = Memory::recall(run_home.path(), other.clone());
            assert!(memory.support().is_none(), "{other:?}");
            assert!(memory.verdict(Feature::Metacopy).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_damaged_file_is_none() {
        let run_home = tempfile::tempdir().unwrap();
        remember(run_home.path());
        let path = run_home.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"\xff\xff", b"null"] {
            fs::write(&path, damaged).unwrap();
            assert!(Memory::recall(run_home.path(), circumstances()).support().is_none(), "{damaged:?}");
        }
    }

    #[test]
    fn a_run_home_that_cannot_be_written_is_no_obstacle() {
        let memory = remember(Path::new("/nonexistent"));
        assert_eq!(memory.support().map(|found| found.dialect), Some(support().dialect));
    }
}
