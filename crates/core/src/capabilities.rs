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
    /// A diff gives back, byte for byte, the archive that the layer was filled from.
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
