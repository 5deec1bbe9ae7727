//! A server in a directory of its own, and bytes to send to it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use graphdriver_core::{Registry, Result};
use graphdriver_plugin::{Limits, Listener, Server, Service, Stopper};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No answer takes longer, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Serving {
    pub(crate) dir: TempDir,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
}

/// An answer: its status, and what is in its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Serving {
    /// A server that Docker has not spoken to yet.
    pub(crate) fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(tempfile::tempdir().unwrap(), limits)
    }

    /// A server that Docker has spoken to.
    pub(crate) fn initialized() -> Self {
        let serving = Self::new();
        serving.init();
        serving
    }

    fn with(dir: TempDir, limits: Limits) -> Self {
        let mut registry = Registry::new();
        registry.register(graphdriver_vfs::DRIVER).unwrap();
        let service = Service::new(registry, Some("vfs"), dir.path().join("run"));
        service.resume().unwrap();
        let listener = Listener::unix(&dir.path().join("socket"), None).unwrap();
        let server = Server::new(service, vec![listener]).unwrap().with_limits(limits);
        let stopper = server.stopper();
        let thread = std::thread::spawn(move || server.run());
        Self { dir, stopper, thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(crate) fn init(&self) {
        let answer =
            self.call("GraphDriver.Init", &json!({"Home": self.dir.path().join("home"), "Opts": null}));
        assert_eq!(answer, json!({"Err": ""}));
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `bytes` and nothing more, and reads to the end of the connection.
    pub(crate) fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // What is not even read has been answered already.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    pub(crate) fn request(&self, target: &str, body: &[u8]) -> Answer {
        Answer::parse(&self.send(&request(target, body)))
    }

    /// A call that succeeds.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, body: &Value) -> Value {
        let answer = self.request(&format!("/{method}"), body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// A call that the driver refuses: the text and the kind.
    #[track_caller]
    pub(crate) fn refused(&self, method: &str, body: &Value) -> (String, String) {
        let answer = self.request(&format!("/{method}"), body.to_string().as_bytes());
        assert_eq!(answer.status, 500, "{method}: {answer:?}");
        answer.error()
    }

    #[track_caller]
    pub(crate) fn apply(&self, id: &str, archive: &[u8]) -> Answer {
        self.request(&format!("/GraphDriver.ApplyDiff?id={id}&parent="), archive)
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Another process in its place.
    pub(crate) fn restart(mut self) -> Self {
        self.stop();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::with(dir, Limits::default())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn request(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Answer {
    #[track_caller]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let text = String::from_utf8_lossy(bytes);
        let end = end.unwrap_or_else(|| panic!("no answer: {text:?}"));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// What it says went wrong, and of what kind that is.
    #[track_caller]
    pub(crate) fn error(&self) -> (String, String) {
        let reply: Value = serde_json::from_slice(&self.body).unwrap();
        let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
        assert!(!text("Err").is_empty(), "{reply}");
        (text("Err"), text("Kind"))
    }
}

/// An archive of one file, which belongs to whoever runs the test.
pub(crate) fn archive(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_uid(nix::unistd::geteuid().as_raw().into());
    header.set_gid(nix::unistd::getegid().as_raw().into());
    builder.append_data(&mut header, name, contents).unwrap();
    builder.into_inner().unwrap()
}
