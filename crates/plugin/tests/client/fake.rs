//! A plugin that knows its answers by heart.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use graphdriver_core::{DriverHome, Graph, OpenOptions, Result};
use graphdriver_plugin::{Address, PluginDriver};
use tempfile::TempDir;

/// Answers that every plugin has to have; those of a test come first.
const ANSWERS: [(&str, &str); 3] = [
    ("/Plugin.Activate", r#"200 {"Implements":["VolumeDriver","GraphDriver"]}"#),
    ("/GraphDriver.Init", "200 {}"),
    ("/GraphDriver.Put", "200 {}"),
];

pub(crate) struct Fake {
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    dir: TempDir,
}

impl Fake {
    /// A plugin that answers a call as the table says, by the beginning of its target: status and body, or `raw ` and bytes; 404 to all others.
    pub(crate) fn new(answers: &'static [(&'static str, &'static str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || answer(&stream.unwrap(), answers, &log));
            }
        });
        Self { asked, dir }
    }

    pub(crate) fn open(&self, options: &[&str]) -> Result<Graph> {
        let place = OpenOptions::new("/docker", "/run")
            .with_options(options.iter().map(|text| text.parse().unwrap()));
        let home = DriverHome::new("plugin:fake", &place).unwrap();
        let address = Address::Unix(self.dir.path().join("socket"));
        Ok(Graph::new(Arc::new(PluginDriver::open_at(address, &home)?)))
    }

    /// How often something was asked that begins with `target`.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(target)).count()
    }
}

fn answer(stream: &UnixStream, answers: &[(&str, &str)], log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut target) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("POST ") {
            rest.split(' ').next().unwrap().clone_into(&mut target);
        } else if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    log.lock().unwrap().push(format!("{target} {}", String::from_utf8(body).unwrap()));
    let known = answers.iter().chain(&ANSWERS).find(|(begin, _)| target.starts_with(begin));
    let answer = known.map_or("404 page not found", |(_, answer)| answer);
    let bytes = if let Some(raw) = answer.strip_prefix("raw ") {
        raw.to_owned()
    } else {
        let (status, text) = answer.split_once(' ').unwrap();
        format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{text}", text.len())
    };
    // The client may have gone.
    let _ = (&*stream).write_all(bytes.as_bytes());
}
