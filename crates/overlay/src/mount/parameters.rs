//! Overlay's own mount parameters: what is asked for, and what the kernel is told.
//!
//! The kernel has rules on what goes with what ([overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)); they are applied here, so that a
//! contradiction is told in the words of who asked, and so that nothing depends on the defaults a kernel was built with.

use std::ffi::CStr;

use graphdriver_archive::whiteout::OverlayXattrs;
use graphdriver_core::{Error, ErrorKind, Result};

use super::Dialect;

/// What was asked for; `None` leaves it to the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Changing owner, mode or times of a file copies these only (Linux 4.19).
    pub(crate) metacopy: Option<bool>,
    /// How directories are renamed (Linux 4.10).
    pub(crate) redirect_dir: Option<RedirectDir>,
    /// Hard links stay such when one is written to; a layer is bound to those it was first mounted on (Linux 4.13).
    pub(crate) index: Option<bool>,
    /// Files can be opened by handle, which an NFS server does (Linux 4.16).
    pub(crate) nfs_export: Option<bool>,
    /// Contents of data-only layers are checked by their fs-verity digests (Linux 6.6).
    pub(crate) verity: Option<&'static str>,
    /// Inode numbers are unique in the mount (Linux 4.17).
    pub(crate) xino: Option<&'static str>,
    /// What identifies the file system of a mount (Linux 5.11).
    pub(crate) uuid: Option<&'static str>,
    /// Nothing is flushed for the upper layer (Linux 5.10).
    pub(crate) volatile: bool,
}

/// What becomes of directories that are renamed and have a part below, and what of those that were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedirectDir {
    /// Renaming leaves a note where the contents are.
    On,
    /// Renaming fails with `EXDEV`, so programs copy. Notes of others are followed if the kernel was built so.
    Off,
    /// Renaming fails, notes are followed.
    Follow,
    /// Renaming fails, notes are ignored.
    NoFollow,
}

impl RedirectDir {
    const ALL: [Self; 4] = [Self::On, Self::Off, Self::Follow, Self::NoFollow];

    fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Follow => "follow",
            Self::NoFollow => "nofollow",
        }
    }
}

const SWITCH: &[&str] = &["on", "off"];

/// The parameters that may be asked for, with their values.
const VALUES: [(&str, &[&str]); 7] = [
    ("index", SWITCH),
    ("metacopy", SWITCH),
    ("nfs_export", SWITCH),
    ("redirect_dir", &["on", "off", "follow", "nofollow"]),
    ("uuid", &["on", "off", "null", "auto"]),
    ("verity", &["on", "off", "require"]),
    ("xino", &["on", "off", "auto"]),
];

/// The parameter that takes no value.
const VOLATILE: &str = "volatile";

/// The values that parameter `key` may have; `None` when there is no such parameter.
pub(super) fn values(key: &str) -> Option<&'static [&'static str]> {
    VALUES.iter().find(|(known, _)| *known == key).map(|(_, values)| *values)
}

/// All parameters that may be asked for.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    VALUES.iter().map(|(key, _)| *key).chain([VOLATILE])
}

impl Wishes {
    /// Takes the option `key=value`; false when it is none of these.
    pub(super) fn take(&mut self, option: &str) -> bool {
        if option == VOLATILE {
            self.volatile = true;
            return true;
        }
        let Some((key, text)) = option.split_once('=') else { return false };
        let Some(value) = values(key).and_then(|values| values.iter().find(|value| **value == text)) else {
            return false;
        };
        let switch = Some(*value == "on");
        match key {
            "index" => self.index = switch,
            "metacopy" => self.metacopy = switch,
            "nfs_export" => self.nfs_export = switch,
            "redirect_dir" => {
                self.redirect_dir = RedirectDir::ALL.into_iter().find(|mode| mode.word() == *value);
            }
            "uuid" => self.uuid = Some(value),
            "verity" => self.verity = Some(value),
            "xino" => self.xino = Some(value),
            _ => return false,
        }
        true
    }

    fn wants_verity(&self) -> bool {
        self.verity.is_some_and(|verity| verity != "off")
    }
}

/// What a mount consists of, as far as parameters depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// There is an upper directory.
    pub(crate) upper: bool,
    /// There are data-only lower directories.
    pub(crate) data_only: bool,
}

/// A parameter other than the directories.
pub(super) type Parameter = (&'static CStr, Option<&'static str>);

/// What the kernel is told besides the directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<Parameter>);

impl Parameters {
    /// The parameters that grant `wishes`, with the rest set so that an upper directory alone is the layer.
    ///
    /// # Errors
    /// `InvalidArgument` naming two wishes that exclude each other; `NotSupported` for one that cannot be had in a user namespace.
    pub(crate) fn new(wishes: &Wishes, dialect: Dialect, shape: Shape) -> Result<Self> {
        let mut parameters = match dialect.xattrs {
            OverlayXattrs::Trusted => of_root(wishes, dialect, shape)?,
            OverlayXattrs::User => of_user_namespace(wishes, dialect, shape)?,
        };
        parameters.extend(wishes.uuid.map(|value| (c"uuid", Some(value))));
        parameters.extend(wishes.xino.map(|value| (c"xino", Some(value))));
        if wishes.volatile && dialect.volatile && shape.upper {
            parameters.push((c"volatile", None));
        }
        Ok(Self(parameters))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Parameter> + '_ {
        self.0.iter().copied()
    }
}

fn of_root(wishes: &Wishes, dialect: Dialect, shape: Shape) -> Result<Vec<Parameter>> {
    let metacopy = metacopy(wishes, shape)?;
    let redirect_dir = redirect_dir(wishes, shape, metacopy)?;
    let nfs_export = wishes.nfs_export == Some(true);
    if nfs_export && wishes.index == Some(false) && shape.upper {
        return Err(contradiction("nfs_export=on", "index=off"));
    }
    let mut parameters: Vec<Parameter> = Vec::new();
    let mut switch = |key, wanted: bool, asked: bool| {
        // A kernel that does not know it has nothing to switch off.
        if dialect.switches || asked {
            parameters.push((key, Some(on_or_off(wanted))));
        }
    };
    // Without an upper directory there is nothing to index.
    if shape.upper {
        switch(c"index", wishes.index.unwrap_or(nfs_export), wishes.index.is_some() || nfs_export);
    }
    switch(c"metacopy", metacopy, wishes.metacopy.is_some() || shape.data_only);
    if dialect.switches || wishes.redirect_dir.is_some() {
        parameters.push((c"redirect_dir", Some(redirect_dir.word())));
    }
    parameters.extend(wishes.nfs_export.map(|wanted| (c"nfs_export", Some(on_or_off(wanted)))));
    parameters.extend(wishes.verity.map(|value| (c"verity", Some(value))));
    Ok(parameters)
}

/// Whether files without their contents are understood, and for writable mounts made.
fn metacopy(wishes: &Wishes, shape: Shape) -> Result<bool> {
    let needed_by = [(shape.data_only, "data-only layers"), (wishes.wants_verity(), "verity")]
        .into_iter()
        .find_map(|(needed, by)| needed.then_some(by));
    let nfs_export = wishes.nfs_export == Some(true);
    match (wishes.metacopy, needed_by) {
        (Some(false), Some(by)) => Err(contradiction("metacopy=off", by)),
        (Some(true), _) if nfs_export => Err(contradiction("metacopy=on", "nfs_export=on")),
        (_, Some(by)) if nfs_export => Err(contradiction("nfs_export=on", by)),
        (Some(wanted), _) => Ok(wanted),
        (None, Some(_)) => Ok(true),
        // Nothing can be written, so following what other programs left is safe.
        (None, None) => Ok(!shape.upper && !nfs_export && follows(wishes.redirect_dir)),
    }
}

fn redirect_dir(wishes: &Wishes, shape: Shape, metacopy: bool) -> Result<RedirectDir> {
    let nfs_export = wishes.nfs_export == Some(true);
    match wishes.redirect_dir {
        // To follow is all that a mount without an upper directory can.
        Some(RedirectDir::Follow) if !shape.upper && metacopy => Ok(RedirectDir::On),
        Some(mode) if metacopy && mode != RedirectDir::On => {
            Err(contradiction("metacopy=on", &format!("redirect_dir={}", mode.word())))
        }
        Some(mode) if nfs_export && !shape.upper && mode != RedirectDir::NoFollow => Err(contradiction(
            "nfs_export=on without an upper directory",
            &format!("redirect_dir={}", mode.word()),
        )),
        Some(mode) => Ok(mode),
        None if metacopy => Ok(RedirectDir::On),
        None if nfs_export && !shape.upper => Ok(RedirectDir::NoFollow),
        // Renamed directories are stored in full, so that the upper directory is the layer; those that others left are seen.
        None => Ok(RedirectDir::Follow),
    }
}

fn follows(mode: Option<RedirectDir>) -> bool {
    matches!(mode, None | Some(RedirectDir::On | RedirectDir::Follow))
}

/// Marks are then in attributes that anybody may set, so the kernel follows nothing that leads elsewhere.
fn of_user_namespace(wishes: &Wishes, dialect: Dialect, shape: Shape) -> Result<Vec<Parameter>> {
    let impossible = [
        (wishes.metacopy == Some(true), "metacopy=on"),
        (matches!(wishes.redirect_dir, Some(RedirectDir::On | RedirectDir::Follow)), "redirect_dir"),
        (wishes.wants_verity(), "verity"),
    ];
    if let Some((_, what)) = impossible.into_iter().find(|(wanted, _)| *wanted) {
        let detail = format!("{what} cannot be had in a user namespace");
        return Err(Error::new(ErrorKind::NotSupported, "mount overlay").detail(detail));
    }
    let mut parameters: Vec<Parameter> = vec![(c"userxattr", None)];
    let nfs_export = wishes.nfs_export == Some(true);
    if shape.upper && (dialect.switches || wishes.index.is_some()) {
        parameters.push((c"index", Some(on_or_off(wishes.index.unwrap_or(nfs_export)))));
    }
    parameters.extend(wishes.nfs_export.map(|wanted| (c"nfs_export", Some(on_or_off(wanted)))));
    Ok(parameters)
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn contradiction(one: &str, other: &str) -> Error {
    let detail = format!("{one} and {other} exclude each other");
    Error::new(ErrorKind::InvalidArgument, "mount overlay").detail(detail)
}

#[cfg(test)]
mod tests {
    use super::super::MountApi;
    use super::super::options::MountRequest;
    use super::*;

    const ROOT: Dialect =
        Dialect { api: MountApi::FsContext, switches: true, volatile: true, xattrs: OverlayXattrs::Trusted };
    const USER: Dialect = Dialect { xattrs: OverlayXattrs::User, ..ROOT };
    /// Of a kernel that knows none of the switches.
    const OLD: Dialect = Dialect { api: MountApi::Mount, switches: false, volatile: false, ..ROOT };

    const WRITABLE: Shape = Shape { upper: true, data_only: false };
    const READ_ONLY: Shape = Shape { upper: false, data_only: false };
    const DATA: Shape = Shape { upper: false, data_only: true };
    const WRITABLE_DATA: Shape = Shape { upper: true, data_only: true };

    fn told(options: &str, dialect: Dialect, shape: Shape) -> Result<String> {
        let options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
        let parameters = Parameters::new(&MountRequest::parse(&options).unwrap().wishes, dialect, shape)?;
        let text = |(key, value): Parameter| {
            let key = key.to_str().unwrap();
            value.map_or(key.to_owned(), |value| format!("{key}={value}"))
        };
        Ok(parameters.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_the_kernel_is_told() {
        for (options, dialect, shape, expected) in [
            ("", ROOT, WRITABLE, "index=off metacopy=off redirect_dir=follow"),
            ("", ROOT, READ_ONLY, "metacopy=on redirect_dir=on"),
            ("", ROOT, DATA, "metacopy=on redirect_dir=on"),
            ("", ROOT, WRITABLE_DATA, "index=off metacopy=on redirect_dir=on"),
            ("metacopy=on", ROOT, WRITABLE, "index=off metacopy=on redirect_dir=on"),
            ("metacopy=on redirect_dir=on", ROOT, WRITABLE, "index=off metacopy=on redirect_dir=on"),
            ("redirect_dir=on", ROOT, WRITABLE, "index=off metacopy=off redirect_dir=on"),
            ("redirect_dir=nofollow", ROOT, WRITABLE, "index=off metacopy=off redirect_dir=nofollow"),
            ("redirect_dir=nofollow", ROOT, READ_ONLY, "metacopy=off redirect_dir=nofollow"),
            ("redirect_dir=follow metacopy=on", ROOT, READ_ONLY, "metacopy=on redirect_dir=on"),
            ("metacopy=off", ROOT, READ_ONLY, "metacopy=off redirect_dir=follow"),
            ("index=on", ROOT, WRITABLE, "index=on metacopy=off redirect_dir=follow"),
            ("index=on", ROOT, READ_ONLY, "metacopy=on redirect_dir=on"),
            ("volatile", ROOT, WRITABLE, "index=off metacopy=off redirect_dir=follow volatile"),
            ("volatile", ROOT, READ_ONLY, "metacopy=on redirect_dir=on"),
            ("nfs_export=on", ROOT, WRITABLE, "index=on metacopy=off redirect_dir=follow nfs_export=on"),
            ("nfs_export=on", ROOT, READ_ONLY, "metacopy=off redirect_dir=nofollow nfs_export=on"),
            ("verity=require", ROOT, DATA, "metacopy=on redirect_dir=on verity=require"),
            (
                "xino=on uuid=null",
                ROOT,
                WRITABLE,
                "index=off metacopy=off redirect_dir=follow uuid=null xino=on",
            ),
            ("", USER, WRITABLE, "userxattr index=off"),
            ("", USER, READ_ONLY, "userxattr"),
            ("", USER, DATA, "userxattr"),
            ("metacopy=off redirect_dir=off volatile", USER, WRITABLE, "userxattr index=off volatile"),
            ("", OLD, WRITABLE, ""),
            ("volatile", OLD, WRITABLE, ""),
            ("", OLD, READ_ONLY, ""),
            ("redirect_dir=on", OLD, WRITABLE, "redirect_dir=on"),
        ] {
            assert_eq!(told(options, dialect, shape).unwrap(), expected, "{options:?} {dialect:?} {shape:?}");
        }
    }

    #[test]
    fn wishes_that_exclude_each_other_are_refused() {
        for (options, dialect, shape, kind, part) in [
            (
                "metacopy=on redirect_dir=off",
                ROOT,
                WRITABLE,
                ErrorKind::InvalidArgument,
                "metacopy=on and redirect_dir=off",
            ),
            (
                "metacopy=on redirect_dir=follow",
                ROOT,
                WRITABLE,
                ErrorKind::InvalidArgument,
                "redirect_dir=follow",
            ),
            (
                "metacopy=on redirect_dir=nofollow",
                ROOT,
                READ_ONLY,
                ErrorKind::InvalidArgument,
                "redirect_dir=nofollow",
            ),
            ("metacopy=off", ROOT, DATA, ErrorKind::InvalidArgument, "metacopy=off and data-only layers"),
            ("metacopy=off verity=on", ROOT, WRITABLE, ErrorKind::InvalidArgument, "metacopy=off and verity"),
            (
                "metacopy=on nfs_export=on",
                ROOT,
                WRITABLE,
                ErrorKind::InvalidArgument,
                "metacopy=on and nfs_export=on",
            ),
            ("nfs_export=on", ROOT, DATA, ErrorKind::InvalidArgument, "nfs_export=on and data-only layers"),
            (
                "nfs_export=on index=off",
                ROOT,
                WRITABLE,
                ErrorKind::InvalidArgument,
                "nfs_export=on and index=off",
            ),
            ("nfs_export=on redirect_dir=on", ROOT, READ_ONLY, ErrorKind::InvalidArgument, "redirect_dir=on"),
            (
                "metacopy=on",
                USER,
                WRITABLE,
                ErrorKind::NotSupported,
                "metacopy=on cannot be had in a user namespace",
            ),
            ("redirect_dir=on", USER, WRITABLE, ErrorKind::NotSupported, "redirect_dir cannot be had"),
            ("verity=on", USER, DATA, ErrorKind::NotSupported, "verity cannot be had"),
        ] {
            let error = told(options, dialect, shape).unwrap_err();
            assert_eq!(error.kind(), kind, "{options:?}");
            assert!(error.to_string().contains(part), "{options:?}: {error}");
        }
    }
}
