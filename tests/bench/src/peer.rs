//! containers-storage, the command of the Go library that podman keeps its layers with.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

const NAME: &str = "containers-storage";

/// Its name and version; `None` when it is not installed.
pub(crate) fn version() -> Option<String> {
    run(Command::new(NAME).arg("version")).ok()?;
    // Debian's is built without its version in it.
    let package = run(Command::new("dpkg-query").args(["--show", NAME])).unwrap_or_default();
    Some(if package.is_empty() {
        NAME.to_owned()
    } else {
        package.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// A store of it.
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// An empty store in `dir`, whatever this machine's configuration says.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir(dir)?;
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            dir.join("graph"),
            dir.join("run")
        );
        std::fs::write(dir.join("storage.conf"), text)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Mounts a layer of it, and says where.
    pub(crate) fn mount(&self, id: &str) -> Result<PathBuf> {
        let printed = self.run(&["mount", id])?;
        // Where it fails it may print nothing and call that a success.
        match printed.trim() {
            "" => Err(format!("{NAME} mount {id} printed no path").into()),
            path => Ok(path.into()),
        }
    }

    /// Runs it, and gives what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(NAME);
        command.env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"));
        command.env_remove("STORAGE_DRIVER").env_remove("STORAGE_OPTS");
        command.arg("--graph").arg(self.dir.join("graph")).arg("--run").arg(self.dir.join("run"));
        run(command.args(["--storage-driver", "overlay"]).args(words))
            .map_err(|error| format!("{NAME} {}: {error}", words.join(" ")).into())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It leaves its home mounted on itself.
        if let Err(error) = self.run(&["shutdown"]) {
            eprintln!("bench: {error}");
        }
    }
}

/// Runs a command to its end, and gives what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
}
