//! What a trial needs from the machine it runs on.

use std::env;
use std::fmt;
use std::path::PathBuf;

/// Something that is missing here.
#[derive(Clone, Debug)]
pub(crate) enum Need {
    /// Root's privileges, for mounts and devices.
    Root,
    /// A program in `PATH`.
    Program(&'static str),
    /// The archives that `tests/data/make-layers.sh` makes.
    Layers(String),
    /// Something that this kernel does not do.
    Kernel(&'static str),
}

impl Need {
    /// Whether nothing that could be installed or allowed here would help.
    pub(crate) fn is_of_kernel(&self) -> bool {
        matches!(self, Self::Kernel(_))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("needs root of the machine"),
            Self::Program(name) => write!(f, "needs the program {name}"),
            Self::Layers(what) => write!(f, "needs layers made by tests/data/make-layers.sh: {what}"),
            Self::Kernel(what) => write!(f, "needs another kernel: {what}"),
        }
    }
}

/// Checks that `name` can be started.
pub(crate) fn program(name: &'static str) -> Result<(), Need> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir: PathBuf| dir.join(name).is_file());
    if found { Ok(()) } else { Err(Need::Program(name)) }
}
