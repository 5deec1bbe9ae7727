//! podman 4.3, as Debian packages it, with a store of its own and without a network.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::Cgroup;
use super::{aside, run};
use crate::needs::{Need, program as need_program};

/// A store, and what podman keeps of its containers.
pub(crate) struct Podman {
    dir: PathBuf,
    cgroup: Cgroup,
}

/// Checks that all that it takes is here.
pub(crate) fn is_here() -> Result<(), Need> {
    ["podman", "runc", "conmon", "busybox"].into_iter().try_for_each(need_program)
}

/// What a container may not set where the suite itself is in a container with lower limits.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"];

impl Podman {
    /// A new store in the existing directory `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        let podman = Self { dir: dir.to_owned(), cgroup: Cgroup::of(dir) };
        let (graph, run) = (podman.graph(), dir.join("run"));
        let text = format!("[storage]\ndriver = \"overlay\"\ngraphroot = {graph:?}\nrunroot = {run:?}\n");
        fs::write(dir.join("storage.conf"), text).unwrap();
        fs::create_dir(dir.join("tmp")).unwrap();
        podman
    }

    /// The directory that holds the home of its driver.
    pub(crate) fn graph(&self) -> PathBuf {
        self.dir.join("graph")
    }

    /// Runs `podman` with these words, which has to succeed, and returns what it prints.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut podman = aside("podman", &self.dir, &[]);
        podman
            .env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"))
            .env("TMPDIR", self.dir.join("tmp"));
        podman.env_remove("STORAGE_DRIVER").env_remove("STORAGE_OPTS");
        podman.arg("--root").arg(self.graph()).arg("--runroot").arg(self.dir.join("run"));
        podman.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
        podman.args(["--events-backend", "file", "--runtime", "runc", "--tmpdir"]).arg(self.dir.join("tmp"));
        String::from_utf8(run(podman.args(words)).stdout).unwrap()
    }

    /// Runs a shell in a new container of `image`, which stays if it gets a name, and returns what it prints.
    pub(crate) fn run(&self, name: Option<&str>, image: &str, commands: &str) -> String {
        let name = name.map_or_else(|| vec!["--rm"], |name| vec!["--name", name]);
        let cgroup = self.cgroup.path();
        let options = ["run", "--network", "none", "--cgroup-parent", &cgroup];
        self.ask(&[&options, &LIMITS[..], &name, &[image, "sh", "-c", commands]].concat())
    }
}
