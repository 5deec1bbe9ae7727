//! What is worth a guest: the runs of `cargo xtask vm-test --all`.

use super::suite::{CONFORMANCE, Wanted};

/// One run of a suite in a guest.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) kernel: String,
    /// The file system of the directory for temporary files, a word of `init.sh`.
    pub(super) here: String,
    pub(super) wanted: Wanted,
    /// System calls that are to be missing, separated by commas.
    pub(super) enosys: Option<String>,
}

impl Run {
    /// Whether the modules of ZFS are needed, which no kernel of Debian's has.
    pub(super) fn needs_zfs(&self) -> bool {
        let chosen = |word: &String| {
            word.strip_prefix("--driver=")
                .or_else(|| word.strip_prefix("--fs="))
                .is_some_and(|names| names.contains("zfs"))
        };
        self.wanted.package == "graphdriver-zfs" || self.wanted.arguments.iter().any(chosen)
    }

    /// For people, and for the `JUnit` file.
    pub(super) fn name(&self) -> String {
        let mut words = vec![self.kernel.as_str()];
        if self.wanted.package != CONFORMANCE {
            words.push(&self.wanted.package);
        }
        words.extend(self.wanted.arguments.iter().map(String::as_str));
        let mut name = words.join(" ");
        if self.here != "tmpfs" {
            name = format!("{name}, here is {}", self.here);
        }
        if let Some(calls) = &self.enosys {
            name = format!("{name}, without {calls}");
        }
        name
    }
}

/// A run that is always the same.
#[derive(Debug)]
pub(super) struct Row {
    kernels: &'static [&'static str],
    here: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    enosys: Option<&'static str>,
    /// Whether `cargo xtask test` runs it too.
    in_every_test: bool,
}

const BOTH: &[&str] = &["debian-6.1", "debian-6.12"];
const NEWER: &[&str] = &["debian-6.12"];
const OLDER: &[&str] = &["debian-6.1"];

const ROW: Row = Row {
    kernels: BOTH,
    here: "tmpfs",
    package: CONFORMANCE,
    arguments: &[],
    enosys: None,
    in_every_test: false,
};

/// Kernels with what the developer's machine may lack, each with what only it can show.
const ROWS: &[Row] = &[
    // Limits, and that they are refused elsewhere.
    Row {
        arguments: &["--driver=vfs-auto,overlay-native,overlay-userns", "quota"],
        in_every_test: true,
        ..ROW
    },
    // The same with the older call, by the device.
    Row {
        arguments: &["--fs=xfs-quota,ext4-quota", "quota"],
        enosys: Some("quotactl_fd"),
        kernels: NEWER,
        ..ROW
    },
    // Every read-write layer is a project.
    Row { arguments: &["--driver=overlay-native", "--fs=here"], here: "xfs-quota", kernels: NEWER, ..ROW },
    Row { arguments: &["--driver=overlay-native", "--fs=here"], here: "ext4-quota", kernels: OLDER, ..ROW },
    Row { arguments: &["--driver=vfs-auto", "--fs=here"], here: "xfs-quota", kernels: OLDER, ..ROW },
    Row { arguments: &["--driver=vfs-auto", "--fs=here"], here: "ext4-quota", kernels: NEWER, ..ROW },
    // Each call of the kernel by itself, fs-verity among them, or how it fails.
    Row { package: "graphdriver-sys", here: "ext4-verity", ..ROW },
    // Contents that are in another layer than the metadata.
    Row { arguments: &["--driver=overlay-metacopy", "--fs=xfs"], ..ROW },
    // Contents in data-only lowers, guarded by fs-verity, which every btrfs has.
    Row { arguments: &["--driver=overlay-composefs", "--fs=btrfs"], kernels: NEWER, ..ROW },
    // Subvolumes, their quotas of both kinds.
    Row { arguments: &["--driver=btrfs"], ..ROW },
    // Modules that Debian has as source.
    Row { arguments: &["--driver=zfs"], kernels: OLDER, ..ROW },
];

/// Every run, of all kernels or of one.
pub(super) fn all(kernel: Option<&str>) -> Vec<Run> {
    runs(|_| true).into_iter().filter(|run| kernel.is_none_or(|kernel| run.kernel == kernel)).collect()
}

/// The runs that are short enough for every day.
pub(super) fn in_every_test() -> Vec<Run> {
    runs(|row| row.in_every_test)
}

fn runs(is_wanted: impl Fn(&Row) -> bool) -> Vec<Run> {
    let wanted = ROWS.iter().filter(|row| is_wanted(row));
    wanted.flat_map(|row| row.kernels.iter().map(|kernel| row.on(kernel))).collect()
}

impl Row {
    fn on(&self, kernel: &str) -> Run {
        let arguments = self.arguments.iter().map(|&word| word.to_owned()).collect();
        Run {
            kernel: kernel.to_owned(),
            here: self.here.to_owned(),
            wanted: Wanted { package: self.package.to_owned(), arguments },
            enosys: self.enosys.map(str::to_owned),
        }
    }
}
