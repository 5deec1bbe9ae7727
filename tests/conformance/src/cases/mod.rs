//! The cases, by topic, and the table of all of them.

mod apply;
mod changes;
mod concurrent;
mod copies;
mod crash;
mod create;
mod deep;
mod diff_apply;
mod differ;
mod edits;
mod errors;
mod exact;
mod ids;
mod live;
mod metadata;
mod quota;
mod random_edits;
mod read_only;
mod references;
mod remove;
mod scaling;
mod shared;
mod space;
mod unmounted;
mod whiteouts;
mod zfs;

use crate::backing::Backing;
use crate::configuration::{Configuration, Driver};
use crate::needs::Privilege;
use crate::store::Store;

/// One thing that every driver must do right.
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Store),
    pub needs: Privilege,
    /// Whether it makes sense for the driver, leaving aside how it is reached; what a driver promises to do, it must be tried on.
    pub applies_to: fn(&Configuration) -> bool,
    /// The file systems that it is tried on, of those that the driver is tried on.
    pub runs_on: fn(Backing) -> bool,
    /// Whether one file system will do, because the case takes long and file systems are not what it is about.
    pub once: bool,
    /// Whether the case sets attributes in the namespace `user`.
    pub user_xattrs: bool,
}

const fn case(name: &'static str, needs: Privilege, run: fn(&Store)) -> Case {
    let runs_on: fn(Backing) -> bool = |backing| !backing.has_quota();
    Case { name, run, needs, applies_to: |_| true, runs_on, once: false, user_xattrs: false }
}

/// Looks at the contents of files whose metadata is the same, if somebody touched them.
fn compares_contents(it: &Configuration) -> bool {
    match it.driver {
        Driver::Vfs | Driver::Zfs => true,
        Driver::Btrfs => it.finds_restored_times,
        Driver::Aufs | Driver::HardLink | Driver::Overlay => false,
    }
}

/// Keeps a record of the archive that a layer was filled from.
fn has_record(configuration: &Configuration) -> bool {
    configuration.driver == Driver::Overlay
}

/// Keeps of each layer what it changes, however many are below.
fn stacks(configuration: &Configuration) -> bool {
    matches!(configuration.driver, Driver::Aufs | Driver::Overlay)
}

/// Limits layers by project quotas, or says why it cannot.
fn has_project_quota(configuration: &Configuration) -> bool {
    matches!(configuration.driver, Driver::Overlay | Driver::Vfs)
}

/// Whether file systems that the driver works on can be mounted there.
fn mounts_what_it_needs(configuration: &Configuration) -> bool {
    !(configuration.driver == Driver::Btrfs && configuration.in_user_namespace)
}

/// Whether a layer that is written to is a mount; to the others its directory is all that it takes.
fn mounts_every_layer(configuration: &Configuration) -> bool {
    !matches!(configuration.driver, Driver::Btrfs | Driver::Vfs)
}

/// Whether layers can be mounted while nothing can be written to the home.
fn mounts_on_read_only(configuration: &Configuration) -> bool {
    // Datasets are file systems of their own, which stay as they are, and their mount points are made for each mount.
    configuration.driver != Driver::Zfs && mounts_what_it_needs(configuration)
}

/// What the plugin protocol has no words for.
const BEYOND_PLUGINS: &[&str] = &[
    // Maps of ids.
    "create_under_id_maps",
    "mount_through_id_maps",
    "update_id_map",
    "update_id_map_killed",
    // Mounts that are only read.
    "home_bound_read_only",
    "home_remounted_read_only",
    "read_only_mount",
    // References of a process: all are the plugin's, which does not know who is gone, and forgets them with a mount that somebody else has ended.
    "killed_process",
    "two_processes",
    "unmounted_by_hand",
    // Layers that nobody sees before they are filled.
    "differ",
    "differ_leaves_nothing",
    "differ_root_directory",
    "several_processes",
    "staged_apply_dropped",
    "staged_apply_killed",
    // Other calls.
    "dedup",
    "file_getter",
];

impl Case {
    /// Whether it makes sense for this driver.
    pub fn applies(&self, configuration: &Configuration) -> bool {
        let has_words = !configuration.by_plugin || !BEYOND_PLUGINS.contains(&self.name);
        has_words && (self.applies_to)(configuration)
    }

    const fn only(self, applies_to: fn(&Configuration) -> bool) -> Self {
        Self { applies_to, ..self }
    }

    const fn with_user_xattrs(self) -> Self {
        Self { user_xattrs: true, ..self }
    }

    /// About limits, which are set by root of the machine.
    const fn with_quota(self) -> Self {
        Self { applies_to: |it| !it.in_user_namespace, runs_on: Backing::has_quota, ..self }
    }

    /// About limits of subvolumes.
    const fn with_counted_subvolumes(self) -> Self {
        Self { applies_to: |it| it.driver == Driver::Btrfs, runs_on: Backing::counts_subvolumes, ..self }
    }

    const fn everywhere(self) -> Self {
        Self { runs_on: |_| true, ..self }
    }

    const fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

use Privilege::{Capable, Devices, Ordinary, Owners};

/// Every case, in the order in which a new driver would be made to pass them.
pub const ALL: &[Case] = &[
    case("create_empty", Ordinary, create::empty),
    case("create_base", Owners, create::base),
    case("create_snap", Ordinary, create::snap),
    case("create_root_owner", Owners, create::root_owner),
    case("create_from_template", Ordinary, create::from_template),
    case("create_under_id_maps", Owners, ids::create_under_maps),
    case("set_quota", Ordinary, quota::set).everywhere().only(has_project_quota),
    case("set_quota", Devices, space::limit).with_counted_subvolumes(),
    case("quota_refused", Ordinary, space::refused_by_namespace).only(|it| it.name == "btrfs-userns"),
    case("quota_of_snapshots", Devices, space::of_snapshots).with_counted_subvolumes(),
    case("quota_defaults", Devices, space::defaults).with_counted_subvolumes(),
    case("quota_after_reopen", Devices, space::after_reopen).with_counted_subvolumes(),
    case("quota_of_filled_layers", Devices, space::of_filled_layers).with_counted_subvolumes(),
    case("quota_is_forgotten", Devices, space::is_forgotten).with_counted_subvolumes(),
    case("quota_of_inodes", Devices, quota::of_inodes).with_quota(),
    case("quota_usage", Devices, quota::usage).with_quota(),
    case("quota_after_reopen", Devices, quota::after_reopen).with_quota(),
    case("quota_ids_are_freed", Devices, quota::ids_are_freed).with_quota(),
    case("quota_ids_differ", Devices, quota::ids_differ).with_quota(),
    case("quota_defaults", Devices, quota::defaults).with_quota(),
    case("quota_of_filled_layers", Devices, quota::of_filled_layers).with_quota(),
    case("quota_after_id_map", Devices, quota::after_id_map).with_quota(),
    case("quota_in_a_project", Devices, quota::in_a_project).with_quota(),
    case("quota_by_device", Devices, quota::by_device).with_quota(),
    case("list_layers", Ordinary, create::list_layers),
    case("describes_itself", Ordinary, create::describes_itself),
    case("usage", Ordinary, create::usage),
    case("odd_home_path", Ordinary, create::odd_home_path).only(|it| it.driver != Driver::Aufs),
    case("exists_get_put", Ordinary, references::exists_get_put),
    case("put_without_get", Ordinary, references::put_without_get),
    case("keep_and_unmount", Ordinary, references::keep_and_unmount),
    case("read_only_mount", Ordinary, references::read_only_mount).only(|it| it.driver != Driver::Vfs),
    case("mount_options", Ordinary, references::mount_options),
    case("two_processes", Ordinary, references::two_processes),
    case("killed_process", Ordinary, references::killed_process),
    case("remove", Ordinary, remove::removes),
    case("remove_unknown", Ordinary, remove::unknown),
    case("remove_mounted", Ordinary, remove::mounted),
    case("remove_with_children", Ordinary, remove::with_children),
    case("remove_deferred", Ordinary, remove::deferred),
    case("errors_by_kind", Ordinary, errors::by_kind),
    case("truncated_archive", Ordinary, errors::truncated_archive),
    case("path_escape", Ordinary, errors::path_escape),
    case("no_space", Capable, errors::no_space).only(mounts_what_it_needs),
    case("deep_layer_read", Ordinary, deep::read_40).only(|it| !stacks(it) && it.driver != Driver::Zfs),
    case("deep_layer_read", Ordinary, deep::read_10).only(|it| it.driver == Driver::Zfs),
    case("deep_layer_read", Ordinary, deep::read_130).only(stacks),
    case("deepest_layer_read", Ordinary, deep::read_500).only(|it| it.driver == Driver::Overlay).once(),
    case("diff_apply_10", Ordinary, diff_apply::ten),
    case("diff_apply_100", Ordinary, diff_apply::hundred),
    case("diff_of_whole_layer", Ordinary, diff_apply::whole_layer),
    case("diff_of_strangers", Ordinary, diff_apply::strangers),
    case("diff_of_live_mount", Ordinary, live::diff_while_files_vanish),
    case("diff_of_removed_layer", Ordinary, live::diff_while_layer_is_removed),
    case("changes", Ordinary, changes::twenty_files),
    case("changes_by_kind", Ordinary, changes::by_kind),
    case("symlink_target", Ordinary, changes::symlink_target),
    case("echo", Ordinary, changes::echo),
    case("same_second_edit", Ordinary, edits::same_second_same_size),
    case("restored_time_edit", Ordinary, edits::restored_time)
        // AUFS gives a file whole seconds.
        .only(|it| it.finds_restored_times && it.driver != Driver::Aufs),
    case("touched_not_changed", Ordinary, edits::touched).only(compares_contents),
    case("parent_edited_later", Ordinary, edits::of_the_parent).only(compares_contents),
    case("hard_links", Ordinary, metadata::hard_links),
    case("user_xattrs", Ordinary, metadata::user_xattrs).with_user_xattrs(),
    case("file_capabilities", Capable, metadata::file_capabilities),
    case("owners_and_modes", Owners, metadata::owners_and_modes),
    case("read_only_files", Capable, metadata::read_only_files).with_user_xattrs(),
    case("times", Ordinary, metadata::times),
    case("fifos", Ordinary, metadata::fifos),
    case("devices", Devices, metadata::devices).only(|it| !it.in_user_namespace),
    case("devices_left_out", Ordinary, metadata::devices_left_out).only(|it| it.in_user_namespace),
    case("whiteouts", Ordinary, whiteouts::of_files_and_dirs),
    case("opaque_directory", Ordinary, whiteouts::opaque),
    case("directory_file_directory", Ordinary, whiteouts::directory_file_directory),
    case("whiteout_then_again", Ordinary, whiteouts::deleted_then_made_again),
    case("apply_to_existing", Ordinary, apply::to_existing),
    case("apply_reports", Ordinary, apply::reports),
    case("apply_drains", Ordinary, apply::drains_its_input),
    case("update_id_map", Owners, ids::update).only(|it| it.driver != Driver::Aufs),
    case("update_id_map_refused", Owners, ids::update_refused).only(|it| it.driver == Driver::Aufs),
    case("update_id_map_killed", Owners, ids::update_killed).only(|it| it.driver == Driver::Overlay),
    case("detached_through_id_maps", Owners, ids::detached),
    case("mount_through_id_maps", Owners, ids::shown).only(|it| !it.mounts_through_id_maps),
    case("file_getter", Ordinary, copies::file_getter),
    case("dedup", Ordinary, copies::dedup),
    case("copies_are_independent", Ordinary, copies::independent).only(|it| !it.by_fuse),
    case("copies_share_blocks", Ordinary, copies::share_blocks)
        .only(|it| ["vfs-auto", "btrfs-native"].contains(&it.name)),
    case("staged_apply_killed", Ordinary, crash::killed_while_filling),
    case("staged_apply_dropped", Ordinary, crash::dropped_before_commit),
    case("differ", Ordinary, differ::fills),
    case("differ_root_directory", Ordinary, differ::root_directory),
    case("differ_leaves_nothing", Ordinary, differ::leaves_nothing),
    case("concurrent_creates", Ordinary, concurrent::creates_of_one_id),
    case("concurrent_mounts", Ordinary, concurrent::mounts_of_one_layer),
    case("several_processes", Ordinary, shared::several_processes).once(),
    case("unmounted_by_hand", Ordinary, unmounted::by_hand).only(mounts_every_layer),
    case("unmounted_while_open", Ordinary, unmounted::while_open).only(mounts_every_layer),
    case("mounted_elsewhere", Ordinary, unmounted::elsewhere).only(mounts_every_layer),
    case("home_remounted_read_only", Capable, read_only::remounted).only(mounts_on_read_only),
    case("home_bound_read_only", Capable, read_only::bound).only(mounts_on_read_only),
    case("exact_diff", Ordinary, exact::round_trip),
    case("exact_diff_replaced_contents", Ordinary, exact::replaced_contents),
    case("exact_diff_edited", Ordinary, exact::edited).only(|it| !it.keeps_images),
    case("exact_diff_edited_in_place", Ordinary, exact::edited_in_place)
        .only(|it| has_record(it) && !it.keeps_images),
    case("exact_diff_edited_attribute", Ordinary, exact::edited_attribute)
        .with_user_xattrs()
        .only(|it| !it.keeps_images),
    case("exact_diff_copied_home", Ordinary, exact::copied_home)
        .only(|it| has_record(it) && !it.keeps_images),
    case("exact_diff_of_another_process", Ordinary, exact::another_process)
        .only(|it| has_record(it) && !it.keeps_images),
    case("exact_diff_damaged_record", Ordinary, exact::damaged_record).only(has_record).once(),
    case("exact_diff_foreign_record", Ordinary, exact::foreign_record).only(has_record).once(),
    case("random_edits", Ordinary, random_edits::round_trip),
    case("native_is_naive", Ordinary, random_edits::native_is_naive).only(|it| it.driver == Driver::Zfs),
    case("hundred_changes", Ordinary, scaling::hundred_changes).only(|it| it.driver == Driver::Zfs),
    case("zfs_reader_and_writer", Devices, zfs::reader_and_writer).only(|it| it.driver == Driver::Zfs),
    case("zfs_busy", Devices, zfs::busy).only(|it| it.driver == Driver::Zfs),
    case("zfs_leaves_nothing", Devices, zfs::leaves_nothing).only(|it| it.driver == Driver::Zfs),
    case("zfs_foreign_datasets", Devices, zfs::foreign_datasets).only(|it| it.driver == Driver::Zfs),
    case("zfs_same_answers", Devices, zfs::same_answers).only(|it| it.driver == Driver::Zfs),
    case("zfs_usage_and_quota", Devices, zfs::usage_and_quota).only(|it| it.driver == Driver::Zfs),
];
