//! Which image is meant: `oci:DIR[:REF]`, `oci-archive:FILE[:REF]`, `docker-archive:FILE[:REF]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The form that an image is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A directory in the OCI image layout.
    OciDirectory,
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

/// An image, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRef {
    pub(crate) transport: Transport,
    pub(crate) path: PathBuf,
    /// Name or tag of one image among several.
    pub(crate) name: Option<String>,
}

impl ImageRef {
    /// The path ends at the first colon after the transport, as for skopeo and podman: names may have colons of their own.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, &'static str> {
        let mut parts = text.as_bytes().splitn(3, |byte| *byte == b':');
        let transport = match parts.next() {
            Some(b"oci") => Transport::OciDirectory,
            Some(b"oci-archive") => Transport::OciArchive,
            Some(b"docker-archive") => Transport::DockerArchive,
            _ => return Err("does not begin with oci:, oci-archive: or docker-archive:"),
        };
        let path = parts.next().filter(|path| !path.is_empty()).ok_or("names no file or directory")?;
        let name = match parts.next() {
            None | Some(b"") => None,
            Some(name) => Some(str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?.to_owned()),
        };
        Ok(Self { transport, path: OsStr::from_bytes(path).into(), name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        use Transport::{DockerArchive, OciArchive, OciDirectory};
        let table = [
            ("oci:image", OciDirectory, "image", None),
            ("oci:/var/lib/x:", OciDirectory, "/var/lib/x", None),
            ("oci:image:latest", OciDirectory, "image", Some("latest")),
            ("oci:image:quay.io:443/a/b:v1@x", OciDirectory, "image", Some("quay.io:443/a/b:v1@x")),
            ("oci-archive:./a b.tar", OciArchive, "./a b.tar", None),
            ("docker-archive:x.tar:docker.io/a/b:3", DockerArchive, "x.tar", Some("docker.io/a/b:3")),
        ];
        for (text, transport, path, name) in table {
            let expected = ImageRef { transport, path: path.into(), name: name.map(str::to_owned) };
            assert_eq!(ImageRef::parse(text.as_ref()), Ok(expected));
        }
        let parsed = ImageRef::parse(OsStr::from_bytes(b"oci:\xff:r")).unwrap();
        assert_eq!(parsed.path, OsStr::from_bytes(b"\xff"));
    }

    #[test]
    fn other_texts() {
        for text in ["", "image", "oci", "oci:", "oci::tag", "docker://alpine", "dir:x", "OCI:x"] {
            assert!(ImageRef::parse(text.as_ref()).is_err(), "{text:?}");
        }
        assert!(ImageRef::parse(OsStr::from_bytes(b"oci:x:\xff")).is_err());
    }
}
