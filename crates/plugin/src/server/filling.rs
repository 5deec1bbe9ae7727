//! Layers whose archive came only in part.
//!
//! When a connection breaks, Docker sends its request again, with what is left of an archive that it has read from already. Where the rest begins with an entry by chance, or nothing is left,
//! it would pass for an archive. So a layer is marked while it is filled, on disk since the break may be our own end, and one that has the mark is filled no more.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, LayerId, Result};

#[derive(Debug)]
pub(crate) struct Filling {
    dir: PathBuf,
}

impl Filling {
    /// Marks in the directory `dir`, which is made when it is needed.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Fills `id` by `fill`, unless that was begun before.
    ///
    /// # Errors
    /// `InvalidArchive` when it was, and for no archive at all; as `fill`; `Io` when there can be no mark.
    pub(crate) fn fill<T>(
        &self,
        id: &LayerId,
        archive: &mut dyn Read,
        fill: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let path = self.path(id);
        let mark = |path: &Path| {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            File::create_new(path)
        };
        match mark(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(partial(id, "a part of its archive has been sent before"));
            }
            Err(error) => return Err(Error::io("mark", &path, error)),
        }
        let mut first = [0];
        let read = read_one(archive, &mut first).map_err(|error| Error::io("read", "request", error))?;
        if read == 0 {
            return Err(partial(id, "the archive is empty, where one without entries has 1024 bytes"));
        }
        let filled = fill(&mut first.chain(archive))?;
        fs::remove_file(&path).map_err(|error| Error::io("unlink", &path, error))?;
        Ok(filled)
    }

    /// Forgets `id`, which exists no more.
    pub(crate) fn forget(&self, id: &LayerId) {
        let path = self.path(id);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(?path, %error, "the mark of a removed layer stays");
        }
    }

    fn path(&self, id: &LayerId) -> PathBuf {
        self.dir.join(id.as_str())
    }
}

fn read_one(source: &mut dyn Read, byte: &mut [u8; 1]) -> io::Result<usize> {
    loop {
        match source.read(byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn partial(id: &LayerId, what: &str) -> Error {
    let detail = format!("{what}; remove the layer and make it anew");
    Error::new(ErrorKind::InvalidArchive, "apply").layer(id).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_archives_fill() {
        let dir = tempfile::tempdir().unwrap();
        let filling = Filling::new(dir.path().join("marks"));
        let id: LayerId = "layer".parse().unwrap();
        let read = |source: &mut dyn Read| {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).map_err(|error| Error::io("read", "source", error))?;
            if bytes == b"bad" { Err(Error::new(ErrorKind::InvalidArchive, "apply")) } else { Ok(bytes) }
        };
        assert_eq!(filling.fill(&id, &mut &b"whole"[..], read).unwrap(), b"whole");
        assert_eq!(filling.fill(&id, &mut &b"again"[..], read).unwrap(), b"again");
        assert!(filling.fill(&id, &mut &b"bad"[..], read).is_err());
        let rest = filling.fill(&id, &mut &b"rest"[..], read).unwrap_err();
        assert!(rest.to_string().contains("sent before"), "{rest}");
        filling.forget(&id);
        assert!(filling.fill(&id, &mut &b""[..], read).unwrap_err().to_string().contains("empty"));
        filling.forget(&id);
        filling.forget(&id);
        assert_eq!(filling.fill(&id, &mut &b"whole"[..], read).unwrap(), b"whole");
    }
}
