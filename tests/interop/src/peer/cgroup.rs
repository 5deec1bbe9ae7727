//! A cgroup for the containers of one peer, so that nothing of them stays.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name of a cgroup that others make in every hierarchy; dropped, it is removed with what still runs in it.
pub(crate) struct Cgroup {
    name: String,
}

impl Cgroup {
    /// One for the peer whose directory is `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { name: dir.to_string_lossy().trim_start_matches('/').replace('/', "-") }
    }

    /// As an absolute path below the root of a hierarchy.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One hierarchy for each controller in version 1; in version 2 the one that all share.
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.name)) {
            if path.is_dir()
                && let Err(error) = remove(&path)
            {
                eprintln!("{}: {error}", path.display());
            }
        }
    }
}

/// Removes a cgroup and those in it. What looks like files in it are none that can be removed.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    let begin = Instant::now();
    loop {
        end_processes(path)?;
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            removed => return removed,
        }
    }
}

fn end_processes(path: &Path) -> io::Result<()> {
    let list = fs::read_to_string(path.join("cgroup.procs"))?;
    // Zero stands for a process that cannot be seen from here, and to kill(2) for ourselves.
    for pid in list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    Ok(())
}
