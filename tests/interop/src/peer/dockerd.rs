//! dockerd 20.10 and its client, as Debian packages them, with a data root of their own and without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cgroup::Cgroup;
use super::room::{Room, end};
use super::{aside, program, run};
use crate::needs::{Need, program as need_program};

/// Not the one that a local installation may have put before it.
const CLIENT: &str = "/usr/bin/docker";

/// A process namespace that ends with the daemon: its first process is the daemon, and whatever that started goes with it, the container daemon and those of containers.
const PROCESSES: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// How long the daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data root, and the daemon that works on it while there is one.
pub(crate) struct Docker {
    dir: PathBuf,
    /// `unshare`, whose child is the daemon.
    daemon: Option<Child>,
    cgroup: Cgroup,
    storage_driver: String,
}

/// Checks that all that it takes is here.
pub(crate) fn is_here() -> Result<(), Need> {
    need_program("dockerd")?;
    need_program("busybox")
}

impl Docker {
    /// A new data root in the existing directory `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self::with_driver(dir, "overlay2")
    }

    /// The same with another storage driver, which may be a plugin.
    pub(crate) fn with_driver(dir: &Path, storage_driver: &str) -> Self {
        let storage_driver = storage_driver.to_owned();
        Self { dir: dir.to_owned(), daemon: None, cgroup: Cgroup::of(dir), storage_driver }
    }

    /// The directory of which one that is called as the storage driver is the home of its layers.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.start_as(aside("dockerd", &self.dir, &PROCESSES));
    }

    /// Starts the daemon where other programs are, too, and waits until it answers.
    pub(crate) fn start_in(&mut self, room: &Room) {
        self.start_as(room.command("dockerd"));
    }

    fn start_as(&mut self, mut daemon: Command) {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        daemon.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-masq=false"]);
        daemon.args(["--storage-driver", &self.storage_driver, "--cgroup-parent", &self.cgroup.path()]);
        daemon.arg("--experimental");
        daemon.arg("--data-root").arg(self.root()).arg("--exec-root").arg(self.dir.join("exec"));
        daemon.arg("--pidfile").arg(self.dir.join("pid")).arg("--host").arg(self.address());
        daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(daemon.spawn().unwrap());
        let begin = Instant::now();
        while !self.client(&["version"]).output().unwrap().status.success() {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "dockerd does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the daemon, and with it all that it has started.
    pub(crate) fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            end(daemon, Signal::SIGTERM);
        }
    }

    /// Runs the client with these words, which has to succeed, and returns what it prints.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        String::from_utf8(run(&mut self.client(words)).stdout).unwrap()
    }

    /// Like [`ask`](Self::ask), without the line's end.
    pub(crate) fn ask_word(&self, words: &[&str]) -> String {
        self.ask(words).trim_end().to_owned()
    }

    /// The layer of an image or container, and those below it, uppermost first.
    pub(crate) fn layers(&self, name: &str) -> Vec<String> {
        let format = "{{.GraphDriver.Data.UpperDir}}:{{with .GraphDriver.Data.LowerDir}}{{.}}{{end}}";
        let printed = self.ask_word(&["inspect", "--format", format, name]);
        let home = self.root().join("overlay2");
        let id = |dir: &str| {
            let layer = Path::new(dir).strip_prefix(&home).unwrap().parent().unwrap();
            layer.to_str().unwrap().to_owned()
        };
        printed.split(':').filter(|dir| !dir.is_empty() && *dir != "<no value>").map(id).collect()
    }

    /// What `docker diff` says of a container: `A`, `C` or `D`, and the path.
    pub(crate) fn changes(&self, container: &str) -> Vec<(char, PathBuf)> {
        let line = |line: &str| (line.chars().next().unwrap(), PathBuf::from(&line[2..]));
        self.ask(&["diff", container]).lines().map(line).collect()
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut client = program(CLIENT);
        client.env("DOCKER_CONFIG", self.dir.join("client")).env("DOCKER_BUILDKIT", "0");
        client.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        client.arg("--host").arg(self.address()).args(words);
        client
    }

    fn address(&self) -> String {
        format!("unix://{}", self.dir.join("socket").display())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.stop();
    }
}
