//! What a trial needs from the machine it runs on.

use std::fmt;

use nix::sys::utsname::uname;
use nix::unistd::Uid;

/// Something that is missing here.
#[derive(Clone, Debug)]
pub enum Need {
    /// Root's privileges, for mounts and devices.
    Root,
    /// More ids than the one that an ordinary user can map.
    IdRange,
    /// A program in `PATH`.
    Program(&'static str),
    /// Something that this kernel, as built and configured, does not do.
    Kernel(String),
    /// The directory for temporary files lies on a file system that cannot carry the driver.
    FileSystem(String),
}

impl Need {
    /// Whether nothing that could be installed or allowed here would help.
    pub fn is_of_kernel(&self) -> bool {
        matches!(self, Self::Kernel(_))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("needs root"),
            Self::IdRange => f.write_str("needs a range of ids: run the suite as root"),
            Self::Program(name) => write!(f, "needs the program {name}"),
            Self::Kernel(what) => write!(f, "needs another kernel: {what}"),
            Self::FileSystem(what) => {
                write!(f, "needs another directory for temporary files (TMPDIR): {what}")
            }
        }
    }
}

/// Version and patch level of the running kernel.
pub fn linux() -> (u32, u32) {
    let name = uname().unwrap();
    let mut numbers = name.release().to_str().unwrap().split(|it: char| !it.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse().unwrap();
    (next(), next())
}

/// Whether the kernel lists the file system.
pub fn has_file_system(name: &str) -> bool {
    let listed = std::fs::read_to_string("/proc/filesystems").unwrap();
    listed.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// What a process may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// What every user may with his own files.
    Ordinary,
    /// Mounts and file capabilities: root of a user namespace, with one id.
    Capable,
    /// Files of several owners: root of a user namespace with a range of ids.
    Owners,
    /// Device nodes: the machine's root.
    Devices,
}

impl Privilege {
    /// Of this process, outside of user namespaces that the suite makes.
    pub fn here() -> Self {
        if !Uid::effective().is_root() {
            Self::Ordinary
        } else if graphdriver_sys::user_namespace::in_initial().unwrap() {
            Self::Devices
        } else {
            Self::Owners
        }
    }

    /// What is missing where only `self` is to be had.
    pub fn lacking(self, needed: Self) -> Option<Need> {
        if self >= needed {
            None
        } else if needed == Self::Owners && self == Self::Capable {
            Some(Need::IdRange)
        } else {
            Some(Need::Root)
        }
    }
}
