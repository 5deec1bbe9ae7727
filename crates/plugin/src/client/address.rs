//! Where a plugin is: found by its name, as Docker does it.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use graphdriver_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

/// The directory of sockets.
pub const SOCKET_DIR: &str = "/run/docker/plugins";

/// The directories of files that tell an address, in the order in which they are looked at.
pub const SEARCHED_DIRS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// Longest file that tells an address, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Where a plugin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// A plugin's file in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls_config: Option<Value>,
}

impl Address {
    /// The address that `unix:///path` or `tcp://host:port` is.
    ///
    /// # Errors
    /// `InvalidArgument` for another text; `NotSupported` for `https://`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let rest = |scheme: &str| text.strip_prefix(scheme).filter(|rest| !rest.is_empty());
        if let Some(path) = rest("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(host) = rest("tcp://").or_else(|| rest("http://")) {
            let host = host.trim_end_matches('/');
            if host
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            {
                return Ok(Self::Tcp(host.to_owned()));
            }
        }
        if text.starts_with("https://") {
            return Err(no_tls());
        }
        let detail = format!("{text:?} is neither unix:///path nor tcp://host:port");
        Err(Error::new(ErrorKind::InvalidArgument, "find plugin").detail(detail))
    }
}

fn no_tls() -> Error {
    Error::new(ErrorKind::NotSupported, "find plugin")
        .detail("plugins are not called over TLS here; let it listen on a unix socket")
}

/// The address of the plugin `name`: `name.sock` in [`SOCKET_DIR`], else what `name.spec` or `name.json` in one of [`SEARCHED_DIRS`] says. Each file may also be in a directory of the plugin's name.
///
/// # Errors
/// `Prerequisites` when there is none; `InvalidArgument` for what is no name, and files that make no sense.
pub fn find_plugin(name: &str) -> Result<Address> {
    find_in(name, Path::new(SOCKET_DIR), &SEARCHED_DIRS.map(Path::new))
}

fn find_in(name: &str, sockets: &Path, dirs: &[&Path]) -> Result<Address> {
    let failed = |kind| Error::new(kind, "find plugin");
    let usual = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(usual) {
        let detail = format!("{name:?} is no name of a plugin: letters, digits, '.', '_' and '-'");
        return Err(failed(ErrorKind::InvalidArgument).detail(detail));
    }
    let in_dir = |dir: &Path, end: &str| {
        let file = format!("{name}.{end}");
        [dir.join(&file), dir.join(name).join(&file)]
    };
    let mut looked_at = Vec::new();
    for path in in_dir(sockets, "sock") {
        if path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket()) {
            return Ok(Address::Unix(path));
        }
        looked_at.push(path);
    }
    for path in dirs.iter().flat_map(|dir| in_dir(dir, "spec").into_iter().chain(in_dir(dir, "json"))) {
        if let Some(text) = read(&path)? {
            let is_json = path.extension().is_some_and(|end| end == "json");
            let address = if is_json { of_json(&text) } else { Address::parse(&text) };
            return address.map_err(|error| error.path(&path));
        }
        looked_at.push(path);
    }
    let looked_at: Vec<String> = looked_at.iter().map(|path| path.display().to_string()).collect();
    let detail = format!("no plugin is called {name:?}; looked for {}", looked_at.join(", "));
    Err(failed(ErrorKind::Prerequisites).detail(detail))
}

fn of_json(text: &str) -> Result<Address> {
    let spec: Spec = serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::InvalidArgument, "find plugin").source(error))?;
    if spec.tls_config.is_some() {
        return Err(no_tls());
    }
    Address::parse(&spec.addr)
}

fn read(path: &Path) -> Result<Option<String>> {
    let failed = |error| Error::io("read", path, error);
    match path.metadata() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(failed(error)),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Err(failed(io::ErrorKind::FileTooLarge.into())),
        Ok(_) => fs::read_to_string(path).map(Some).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn addresses() {
        let unix = |path: &str| Some(Address::Unix(path.into()));
        let tcp = |host: &str| Some(Address::Tcp(host.to_owned()));
        let table = [
            ("unix:///run/a.sock", unix("/run/a.sock")),
            (" unix:///run/a.sock\n", unix("/run/a.sock")),
            ("tcp://localhost:8080", tcp("localhost:8080")),
            ("tcp://[::1]:80", tcp("[::1]:80")),
            ("http://localhost:8080/", tcp("localhost:8080")),
            ("", None),
            ("unix://", None),
            ("unix://a.sock", None),
            ("/run/a.sock", None),
            ("tcp://localhost", None),
            ("tcp://:80", None),
            ("tcp://localhost:http", None),
            ("https://localhost:443", None),
        ];
        for (text, expected) in table {
            assert_eq!(Address::parse(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_order_of_places() {
        let dir = tempfile::tempdir().unwrap();
        let [run, etc, lib] = ["run", "etc", "lib"].map(|name| dir.path().join(name));
        for dir in [&run, &etc, &lib] {
            fs::create_dir_all(dir.join("p")).unwrap();
        }
        let find = || find_in("p", &run, &[&etc, &lib]);
        let missing = find().unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Prerequisites);
        for place in ["run/p.sock", "run/p/p.sock", "etc/p.spec", "lib/p/p.json"] {
            assert!(missing.to_string().contains(place), "{missing}");
        }
        // From the last place to the first, each wins over those before.
        let json = r#"{"Name":"other","Addr":"tcp://localhost:1"}"#;
        fs::write(lib.join("p/p.json"), json).unwrap();
        assert_eq!(find().unwrap(), Address::Tcp("localhost:1".to_owned()));
        fs::write(etc.join("p.json"), r#"{"Addr":"tcp://localhost:2"}"#).unwrap();
        assert_eq!(find().unwrap(), Address::Tcp("localhost:2".to_owned()));
        fs::write(etc.join("p/p.spec"), "tcp://localhost:3\n").unwrap();
        assert_eq!(find().unwrap(), Address::Tcp("localhost:3".to_owned()));
        fs::write(run.join("p.sock"), "no socket").unwrap();
        assert_eq!(find().unwrap(), Address::Tcp("localhost:3".to_owned()));
        let _socket = UnixListener::bind(run.join("p/p.sock")).unwrap();
        assert_eq!(find().unwrap(), Address::Unix(run.join("p/p.sock")));
    }

    #[test]
    fn files_that_make_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        let table = [
            ("spec", "Unknown protocol", ErrorKind::InvalidArgument),
            ("json", "{}", ErrorKind::InvalidArgument),
            ("json", "{", ErrorKind::InvalidArgument),
            ("json", r#"{"Addr":"https://localhost:1"}"#, ErrorKind::NotSupported),
            (
                "json",
                r#"{"Addr":"tcp://localhost:1","TLSConfig":{"InsecureSkipVerify":true}}"#,
                ErrorKind::NotSupported,
            ),
        ];
        for (end, text, kind) in table {
            let path = dir.path().join(format!("p.{end}"));
            fs::write(&path, text).unwrap();
            let error = find_in("p", Path::new("/nowhere"), &[dir.path()]).unwrap_err();
            assert_eq!((error.kind(), error.failed_path()), (kind, Some(&*path)), "{text}");
            fs::remove_file(&path).unwrap();
        }
        for name in ["", ".", "..", ".p", "a/b", "a\0", "a:b"] {
            assert_eq!(find_plugin(name).unwrap_err().kind(), ErrorKind::InvalidArgument, "{name:?}");
        }
    }
}
