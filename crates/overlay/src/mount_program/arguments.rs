//! The options that fuse-overlayfs is started with. No I/O.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use graphdriver_core::{Error, ErrorKind, IdMap, Result};
use nix::mount::MsFlags;

use super::ProgramMount;

/// The mount options that libfuse passes on.
const WORDS: [(MsFlags, &str); 5] = [
    (MsFlags::MS_RDONLY, "ro"),
    (MsFlags::MS_NOSUID, "nosuid"),
    (MsFlags::MS_NODEV, "nodev"),
    (MsFlags::MS_NOEXEC, "noexec"),
    (MsFlags::MS_NOATIME, "noatime"),
];

/// The value of `-o`: options with commas between them.
///
/// # Errors
/// `InvalidArgument` for a directory with a colon in its path, at which fuse-overlayfs splits whatever stands before it, and for a label with quotes.
pub(super) fn options(home: &Path, mount: &ProgramMount<'_>) -> Result<OsString> {
    let mut lowers = Vec::new();
    for lower in mount.lowers {
        lowers.push(directory(home, lower)?);
    }
    let mut options = vec![[b"lowerdir=", lowers.join(&b':').as_slice()].concat()];
    if let Some(upper) = mount.upper {
        options.push([b"upperdir=", directory(home, upper.directory)?.as_slice()].concat());
        options.push([b"workdir=", directory(home, upper.work)?.as_slice()].concat());
    }
    let words = WORDS.iter().filter(|(flag, _)| mount.attributes.classic.contains(*flag));
    options.extend(words.map(|(_, word)| word.as_bytes().to_vec()));
    for (kind, maps) in [("uid", mount.id_maps.uids()), ("gid", mount.id_maps.gids())] {
        options.extend(mapping(kind, maps).map(String::into_bytes));
    }
    if mount.notes {
        options.push(b"xattr_permissions=2".to_vec());
    }
    if let Some(label) = mount.label {
        options.push(context(label)?);
    }
    Ok(OsString::from_vec(options.join(&b',')))
}

/// A directory as libfuse reads it, relative to the home where that is above it.
fn directory(home: &Path, path: &Path) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    // The whole path counts, since it is looked up before it is split.
    if bytes.contains(&b':') {
        let detail = "fuse-overlayfs cannot have a directory with a colon in its path";
        return Err(Error::new(ErrorKind::InvalidArgument, "mount").path(path).detail(detail));
    }
    let short = path.strip_prefix(home).unwrap_or(path);
    Ok(escape(short.as_os_str().as_bytes()))
}

/// libfuse ends an option at a comma and takes one level of backslashes away.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        if matches!(byte, b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// `uidmapping=CONTAINER:HOST:SIZE:...`; one owner for all files where there is a single id.
fn mapping(kind: &str, maps: &[IdMap]) -> Option<String> {
    match maps {
        [] => None,
        [IdMap { host_id, size: 1, .. }] => Some(format!("squash_to_{kind}={host_id}")),
        maps => {
            let triples: Vec<String> = maps
                .iter()
                .map(|IdMap { container_id, host_id, size }| format!("{container_id}:{host_id}:{size}"))
                .collect();
            Some(format!("{kind}mapping={}", triples.join(":")))
        }
    }
}

/// The label in quotes for the kernel, the commas in it escaped from libfuse.
fn context(label: &str) -> Result<Vec<u8>> {
    Ok(escape(graphdriver_core::context_option(label)?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use graphdriver_core::IdMaps;

    use super::*;
    use crate::mount::{Attributes, Upper};

    fn text(lowers: &[&str], upper: Option<[&str; 2]>, id_maps: &IdMaps, label: Option<&str>) -> String {
        let lowers: Vec<&Path> = lowers.iter().map(Path::new).collect();
        let mount = ProgramMount {
            lowers: &lowers,
            upper: upper
                .as_ref()
                .map(|[directory, work]| Upper { directory: Path::new(directory), work: Path::new(work) }),
            notes: false,
            target: Path::new("/home,/id/merged"),
            id_maps,
            label,
            attributes: Attributes::NONE,
        };
        options(Path::new("/home,"), &mount).unwrap().into_string().unwrap()
    }

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMap {
        IdMap { container_id, host_id, size }
    }

    #[test]
    fn directories_are_relative_to_the_home_and_escaped() {
        let none = IdMaps::default();
        let table = [
            (&["/home,/a/diff"][..], None, "lowerdir=a/diff"),
            (&["/home,/a/diff", "/x,y\\z/diff"], None, "lowerdir=a/diff:/x\\,y\\\\z/diff"),
            (
                &["/home,/a b/diff"],
                Some(["/home,/c/diff", "/home,/c/work"]),
                "lowerdir=a b/diff,upperdir=c/diff,workdir=c/work",
            ),
        ];
        for (lowers, upper, expected) in table {
            assert_eq!(text(lowers, upper, &none, None), expected);
        }
        assert_eq!(
            text(&["/l"], None, &none, Some("u:r:t:s0:c1,c2")),
            "lowerdir=/l,context=\"u:r:t:s0:c1\\,c2\""
        );
    }

    #[test]
    fn owners() {
        let maps = |uids: &[IdMap], gids: &[IdMap]| IdMaps::new(uids.to_vec(), gids.to_vec()).unwrap();
        let table = [
            (maps(&[map(0, 1000, 1)], &[map(0, 100, 1)]), "squash_to_uid=1000,squash_to_gid=100"),
            (
                maps(&[map(0, 1000, 1), map(1, 100_000, 65_535)], &[map(0, 7, 2)]),
                "uidmapping=0:1000:1:1:100000:65535,gidmapping=0:7:2",
            ),
        ];
        for (maps, expected) in table {
            assert_eq!(text(&["/l"], None, &maps, None), format!("lowerdir=/l,{expected}"));
        }
    }

    #[test]
    fn flags_and_attributes_of_permissions() {
        let attributes = Attributes::READ_ONLY.and(Attributes::of_word("nodev").unwrap());
        let id_maps = IdMaps::default();
        let lowers = [Path::new("/l")];
        let mount = ProgramMount {
            lowers: &lowers,
            upper: None,
            notes: true,
            target: Path::new("/t"),
            id_maps: &id_maps,
            label: None,
            attributes,
        };
        assert_eq!(options(Path::new("/h"), &mount).unwrap(), "lowerdir=/l,ro,nodev,xattr_permissions=2");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let id_maps = IdMaps::default();
        let lowers = [Path::new("/h:x/l")];
        let mut mount = ProgramMount {
            lowers: &lowers,
            upper: None,
            notes: false,
            target: Path::new("/t"),
            id_maps: &id_maps,
            label: None,
            attributes: Attributes::NONE,
        };
        let error = options(Path::new("/h:x"), &mount).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("colon"), "{error}");
        let lowers = [Path::new("/l")];
        mount = ProgramMount { lowers: &lowers, label: Some("a\",b"), ..mount };
        assert_eq!(options(Path::new("/h"), &mount).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
