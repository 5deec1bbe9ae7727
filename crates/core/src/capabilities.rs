//! What an opened driver can do here.

/// What a driver can do on this kernel, file system and configuration, found by probing when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each asked for by name")]
#[doc(alias = "CapabilityDriver")]
pub struct Capabilities {
    /// Changes and diff of a layer against its parent cost what changed, not what the trees hold.
    pub native_diff: bool,
    /// [`apply`](crate::Graph::apply) fills a layer without mounting it.
    pub native_apply: bool,
    /// [`create_filled`](crate::Graph::create_filled) keeps a layer out of sight until it is complete, so that a killed process leaves no part of one.
    pub staged_apply: bool,
    /// A diff gives back, byte for byte, the archive that the layer was filled from, unless the layer was changed since. A few archives are excepted (those that replace
    /// their own files, sparse files), whose diff is another archive of the same tree.
    #[doc(alias = "ReproducesExactDiffs")]
    pub exact_diffs: bool,
    /// The driver can limit the size of a read-write layer, and counts what it uses.
    pub quota: bool,
    /// Mounts can show other owners than the disk has, without a copy.
    #[doc(alias = "SupportsShifting")]
    pub id_shifting: bool,
    /// The copy of a parent shares its blocks until they are written to.
    pub reflink: bool,
    /// A mount can leave out flushing for the upper layer.
    pub volatile: bool,
    /// The driver runs without privilege, in a user namespace.
    pub user_namespace: bool,
}

impl Capabilities {
    /// Name and value of each capability, in the order of the fields.
    pub fn named(self) -> [(&'static str, bool); 9] {
        let Self {
            native_diff,
            native_apply,
            staged_apply,
            exact_diffs,
            quota,
            id_shifting,
            reflink,
            volatile,
            user_namespace,
        } = self;
        [
            ("native_diff", native_diff),
            ("native_apply", native_apply),
            ("staged_apply", staged_apply),
            ("exact_diffs", exact_diffs),
            ("quota", quota),
            ("id_shifting", id_shifting),
            ("reflink", reflink),
            ("volatile", volatile),
            ("user_namespace", user_namespace),
        ]
    }
}

/// Something that this kernel, file system or configuration may or may not offer a driver.
///
/// For people and for bug reports; what programs need to know is in [`Capabilities`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    name: &'static str,
    /// Why it is off.
    off: Option<String>,
}

impl Feature {
    /// One that is there.
    pub fn on(name: &'static str) -> Self {
        Self { name, off: None }
    }

    /// One that is not there, with the reason.
    pub fn off(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, off: Some(reason.into()) }
    }

    /// What it is called, in lower case with underscores.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is there.
    pub fn is_on(&self) -> bool {
        self.off.is_none()
    }

    /// Why it is not there: the kernel's words where it has any.
    pub fn reason(&self) -> Option<&str> {
        self.off.as_deref()
    }
}
