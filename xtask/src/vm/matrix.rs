//! What is worth a guest: the runs of `cargo xtask vm-test --all`.

use super::suite::{CONFORMANCE, Wanted};

/// One run of a suite in a guest.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) kernel: String,
    /// The file system of the directory for temporary files, a word of `init.sh`.
    pub(super) here: String,
    pub(super) wanted: Wanted,
    /// What [`Wanted::without`] is, for the name.
    pub(super) left_out: String,
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
        self.wanted.packages.iter().any(|package| package == "graphdriver-zfs")
            || self.wanted.arguments.iter().any(chosen)
    }

    /// For people, and for the `JUnit` file.
    pub(super) fn name(&self) -> String {
        let mut words = vec![self.kernel.as_str()];
        let packages = self.wanted.packages.iter().map(String::as_str);
        words.extend(packages.filter(|package| *package != CONFORMANCE));
        words.extend(self.wanted.arguments.iter().map(String::as_str));
        let mut name = words.join(" ");
        if !self.left_out.is_empty() {
            name = format!("{name}, without {}", self.left_out);
        }
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
    packages: &'static [&'static str],
    arguments: &'static [&'static str],
    without: &'static [LeftOut],
    enosys: Option<&'static str>,
    /// Whether `cargo xtask test` runs it too.
    in_every_test: bool,
}

/// Cases that a row leaves out.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    /// Which they are, in words.
    what: &'static str,
    /// Parts of their names.
    cases: &'static [&'static str],
}

const BOTH: &[&str] = &["debian-6.1", "debian-6.12"];
const NEWER: &[&str] = &["debian-6.12"];
const OLDER: &[&str] = &["debian-6.1"];

const ROW: Row = Row {
    kernels: BOTH,
    here: "tmpfs",
    packages: &[CONFORMANCE],
    arguments: &[],
    without: &[],
    enosys: None,
    in_every_test: false,
};

/// What compares large trees or fills them, which is more the program's work than the kernel's and half of the time: in the rows without these, every developer's machine does it.
const LONGEST: LeftOut = LeftOut {
    what: "the longest",
    cases: &["deep_layer_read", "exact_diff", "random_edits", "update_id_map_killed"],
};

/// What of an archive or of an edit arrives in a layer: file by file, whatever the driver. With zfs, where each step is some processes of a tenth of a second, these take long.
const OF_ARCHIVES: LeftOut = LeftOut {
    what: "those of archives",
    cases: &[
        "diff_of_live_mount",
        "apply_drains",
        "apply_reports",
        "apply_to_existing",
        "changes_by_kind",
        "devices",
        "directory_file_directory",
        "echo",
        "fifos",
        "file_capabilities",
        "hard_links",
        "opaque_directory",
        "owners_and_modes",
        "path_escape",
        "read_only_files",
        "restored_time_edit",
        "same_second_edit",
        "symlink_target",
        "times",
        "truncated_archive",
        "user_xattrs",
        "whiteout",
    ],
};

/// Kernels with what the developer's machine may lack, each with what only it can show. The longest are first: several guests run at the same time.
///
/// All have to be done in some minutes. A full suite takes about one of them on one processor, a guest to boot some seconds.
const ROWS: &[Row] = &[
    // Modules that Debian has as source. The newer ones do all that is the driver's, the older ones what the two versions could do differently.
    Row { arguments: &["--driver=zfs-programs"], kernels: NEWER, without: &[LONGEST, OF_ARCHIVES], ..ROW },
    Row {
        arguments: &["--driver=zfs-programs", "diff"],
        kernels: OLDER,
        without: &[LONGEST, OF_ARCHIVES],
        ..ROW
    },
    Row { arguments: &["--driver=zfs-programs", "native"], kernels: OLDER, ..ROW },
    Row { arguments: &["--driver=zfs-programs", "zfs_"], kernels: OLDER, ..ROW },
    // Questions to the library of each version.
    Row { arguments: &["--driver=zfs-libzfs", "zfs_"], ..ROW },
    // Every read-write layer is a project.
    Row {
        arguments: &["--driver=overlay-native", "--fs=here"],
        here: "xfs-quota",
        kernels: NEWER,
        without: &[LONGEST],
        ..ROW
    },
    // Contents in data-only lowers, guarded by fs-verity, which every btrfs has.
    Row {
        arguments: &["--driver=overlay-composefs", "--fs=btrfs"],
        kernels: NEWER,
        without: &[LONGEST],
        ..ROW
    },
    // Subvolumes, and their quotas of both kinds.
    Row {
        arguments: &["--driver=btrfs-native", "--fs=btrfs,btrfs-quota"],
        kernels: OLDER,
        without: &[LONGEST],
        ..ROW
    },
    Row {
        arguments: &["--driver=btrfs-native", "--fs=btrfs,btrfs-squota"],
        kernels: NEWER,
        without: &[LONGEST],
        ..ROW
    },
    Row {
        arguments: &["--driver=overlay-native", "--fs=here"],
        here: "ext4-quota",
        kernels: OLDER,
        without: &[LONGEST],
        ..ROW
    },
    // Contents that are in another layer than the metadata.
    Row { arguments: &["--driver=overlay-metacopy", "--fs=xfs"], kernels: OLDER, without: &[LONGEST], ..ROW },
    // Limits, and that they are refused elsewhere.
    Row {
        arguments: &["--driver=vfs-auto,overlay-native,overlay-userns", "quota"],
        in_every_test: true,
        ..ROW
    },
    Row {
        arguments: &["--driver=vfs-auto", "--fs=here"],
        here: "xfs-quota",
        kernels: OLDER,
        without: &[LONGEST],
        ..ROW
    },
    Row {
        arguments: &["--driver=vfs-auto", "--fs=here"],
        here: "ext4-quota",
        kernels: NEWER,
        without: &[LONGEST],
        ..ROW
    },
    // Limits with the older call, by the device.
    Row {
        arguments: &["--driver=vfs-auto", "--fs=xfs-quota,ext4-quota", "quota"],
        enosys: Some("quotactl_fd"),
        kernels: NEWER,
        ..ROW
    },
    // Each call of the kernel by itself, fs-verity among them, or how it fails.
    Row { packages: &["graphdriver-sys"], here: "ext4-verity", ..ROW },
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
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Run {
            kernel: kernel.to_owned(),
            here: self.here.to_owned(),
            wanted: Wanted {
                packages: owned(self.packages),
                arguments: owned(self.arguments),
                without: self.without.iter().flat_map(|left_out| owned(left_out.cases)).collect(),
            },
            left_out: self.without.iter().map(|left_out| left_out.what).collect::<Vec<_>>().join(" and "),
            enosys: self.enosys.map(str::to_owned),
        }
    }
}
