//! Limits of layers, as the drivers that keep them in directories have them.

use std::path::Path;

use graphdriver_archive::{DiskUsage, RootDir};

use crate::driver::{CreateOptions, Quota};
use crate::error::{Error, ErrorKind, Result};
use crate::project_quota::{ProjectQuota, Unavailable};
use crate::size::format_size;

/// The limits of the layers of one home: by project quotas, or none at all where these cannot be had.
///
/// Every read-write layer gets a project of its own where there are such, so that what it uses is read from the counters, and limits apply if it has any.
#[derive(Debug)]
pub struct LayerQuotas {
    projects: Result<ProjectQuota, Unavailable>,
    defaults: Quota,
}

impl LayerQuotas {
    /// Those of the existing directory `home`, whose layers are renamed into its subdirectory `layers` or into itself. Layers that are created without limits of their own get `defaults`.
    ///
    /// # Errors
    /// `InvalidArgument` when `defaults` has limits and there are no project quotas; the message has the reason and what to do. (Not `NotSupported`, for which [`Registry::select`](crate::Registry::select) would take another driver, and leave
    /// out the limits that were asked for.)
    pub fn open(home: &Path, layers: &Path, defaults: Quota) -> Result<Self> {
        let projects = ProjectQuota::open(home, layers);
        if let Err(reason) = &projects {
            tracing::debug!(?home, %reason, "no quotas");
            require_defaults(reason, defaults)?;
        }
        Ok(Self { projects, defaults })
    }

    /// Whether [`open`](Self::open) would succeed for a home that is still to be made below the directory `dir`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn probe(dir: &Path, defaults: Quota) -> Result<()> {
        if defaults.is_unlimited() {
            return Ok(());
        }
        ProjectQuota::probe(dir).or_else(|reason| require_defaults(&reason, defaults))
    }

    /// Why layers cannot be limited; `None` when they can.
    pub fn unavailable(&self) -> Option<&Unavailable> {
        self.projects.as_ref().err()
    }

    /// Whether layers can be limited, for [`Driver::status`](crate::Driver::status): `true`, or `false: ` and the reason.
    pub fn status(&self) -> String {
        self.unavailable().map_or_else(|| true.to_string(), |reason| format!("{}: {reason}", false))
    }

    /// Prepares the empty directory `dir` to become the layer that `options` describes, before anything is in it.
    ///
    /// # Errors
    /// `InvalidArgument` for limits of a layer that is not read-write; `NotSupported` for limits that cannot be had, with the reason; `NoSpace`; `Io`.
    pub fn begin(&self, dir: &RootDir, options: &CreateOptions) -> Result<()> {
        let Some(limits) = options.limits(self.defaults)? else { return Ok(()) };
        match &self.projects {
            Ok(projects) => projects.assign(dir, limits),
            Err(reason) => require(reason, limits),
        }
    }

    /// Prepares the empty directory `dir` for what is to be renamed from it into the layer's directory `layer`, which takes nothing that does not count for it.
    ///
    /// # Errors
    /// `Io`.
    pub fn join(&self, dir: &RootDir, layer: &Path) -> Result<()> {
        match &self.projects {
            Ok(projects) => projects.join(dir, &RootDir::open(layer)?),
            Err(_) => Ok(()),
        }
    }

    /// What the layer in the directory `layer` uses, by the file system's counters: everything in the directory counts, in space that is allocated. `None` where nothing is counted for it alone.
    ///
    /// # Errors
    /// `Io`.
    pub fn usage(&self, layer: &Path) -> Result<Option<DiskUsage>> {
        match &self.projects {
            Ok(projects) => projects.usage(&RootDir::open(layer)?),
            Err(_) => Ok(None),
        }
    }

    /// Names the limits of the layer that is or was being filled in `dir`, if `error` may come from them: file systems answer as if they were full.
    pub fn explain(&self, error: Error, dir: &RootDir) -> Error {
        let Ok(projects) = &self.projects else { return error };
        if error.kind() != ErrorKind::NoSpace {
            return error;
        }
        match projects.limits(dir) {
            Ok(Some(limits)) if !limits.is_unlimited() => error.detail(described(limits)),
            _ => error,
        }
    }

    /// Forgets the limits of the layer in the directory `layer`, which is about to be deleted and out of everybody's sight. That it fails is only logged: the next layer with the same project gets its own limits.
    pub fn end(&self, layer: &Path) {
        let Ok(projects) = &self.projects else { return };
        if let Err(error) = RootDir::open(layer).map_err(Error::from).and_then(|dir| projects.lift(&dir)) {
            tracing::warn!(error = %error.report(), "the limits of a removed layer stay");
        }
    }
}

fn described(limits: Quota) -> String {
    let bytes = limits.bytes.map(format_size);
    let inodes = limits.inodes.map(|inodes| format!("{inodes} inodes"));
    let both: Vec<_> = bytes.into_iter().chain(inodes).collect();
    format!("the layer is limited to {}", both.join(" and "))
}

fn require(reason: &Unavailable, limits: Quota) -> Result<()> {
    if limits.is_unlimited() { Ok(()) } else { Err(reason.to_error("set quota")) }
}

fn require_defaults(reason: &Unavailable, defaults: Quota) -> Result<()> {
    require(reason, defaults)
        .map_err(|error| Error::new(ErrorKind::InvalidArgument, "use options size and inodes").source(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::LayerKind;

    const fn quota(bytes: Option<u64>, inodes: Option<u64>) -> Quota {
        Quota { bytes, inodes }
    }

    fn layer(kind: LayerKind, quota: Quota) -> CreateOptions {
        CreateOptions { kind, quota, ..CreateOptions::default() }
    }

    #[test]
    fn limits_of_new_layers() {
        let defaults = quota(Some(10), Some(20));
        for (own, expected) in [
            (quota(None, None), defaults),
            (quota(Some(5), None), quota(Some(5), Some(20))),
            (quota(None, Some(6)), quota(Some(10), Some(6))),
            (quota(Some(0), Some(0)), quota(Some(0), Some(0))),
        ] {
            let limits = layer(LayerKind::ReadWrite, own).limits(defaults).unwrap();
            assert_eq!(limits, Some(expected), "{own:?}");
        }
        for own in [quota(None, None), quota(Some(0), None)] {
            assert_eq!(layer(LayerKind::ReadOnly, own).limits(defaults).unwrap(), None);
        }
        for own in [quota(Some(1), None), quota(None, Some(1))] {
            let error = layer(LayerKind::ReadOnly, own).limits(defaults).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("read-write layers only"), "{error}");
        }
    }

    #[test]
    fn limits_are_described() {
        for (limits, text) in [
            (quota(Some(5 << 20), None), "limited to 5MiB"),
            (quota(None, Some(7)), "limited to 7 inodes"),
            (quota(Some(1 << 30), Some(7)), "limited to 1GiB and 7 inodes"),
        ] {
            assert!(described(limits).ends_with(text), "{}", described(limits));
        }
    }

    /// tmpfs has no project quotas, whatever the kernel and whoever asks.
    #[test]
    fn without_quotas_only_limits_are_refused() {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let limits = quota(Some(1 << 20), None);
        let error = LayerQuotas::open(temp.path(), temp.path(), limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let message = error.report().to_string();
        assert!(message.contains("cannot be limited: "), "{message}");
        let probed = LayerQuotas::probe(temp.path(), limits).unwrap_err();
        assert_eq!((probed.kind(), probed.report().to_string()), (error.kind(), message.clone()));
        LayerQuotas::probe(temp.path(), quota(Some(0), None)).unwrap();

        let quotas = LayerQuotas::open(temp.path(), temp.path(), Quota::default()).unwrap();
        assert!(quotas.unavailable().is_some());
        let dir = RootDir::open(temp.path()).unwrap();
        quotas.begin(&dir, &layer(LayerKind::ReadWrite, quota(None, Some(0)))).unwrap();
        let refused = quotas.begin(&dir, &layer(LayerKind::ReadWrite, limits)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotSupported);
        assert!(message.ends_with(&refused.to_string()), "{message}: {refused}");
        assert_eq!(quotas.usage(temp.path()).unwrap(), None);
        quotas.join(&dir, temp.path()).unwrap();
        quotas.end(temp.path());
    }

    #[test]
    #[ignore = "needs root"]
    fn tmpfs_is_named_as_the_reason() {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let error = LayerQuotas::open(temp.path(), temp.path(), quota(None, Some(1))).unwrap_err();
        let message = error.report().to_string();
        assert!(message.ends_with("tmpfs has no project quotas; put the root on xfs or ext4"), "{message}");
    }
}
