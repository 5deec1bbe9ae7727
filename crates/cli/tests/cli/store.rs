//! A store in a temporary directory, and the program that works on it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_graphdriver");

/// A store of the vfs driver, which works everywhere, without layers yet.
pub(crate) struct Store {
    dir: TempDir,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A path beside the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program on this store; as an ordinary user without the owners that it cannot give.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(self.path("root")).arg("--run-root").arg(self.path("run"));
        command.args(["--driver", "vfs"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--quiet", "-o", "ignore_chown_errors=true"]);
        }
        command.args(arguments).env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what has to work, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must not work: one line on standard error, nothing on standard output. Returns that line.
    pub(crate) fn fails(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(message.starts_with("graphdriver: "), "{arguments:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
        message
    }

    /// `apply` with the tar on standard input.
    pub(crate) fn apply(&self, id: &str, parent: Option<&str>, tar: &[u8]) -> Output {
        let mut arguments = vec!["apply", id];
        arguments.extend(parent.iter().flat_map(|parent| ["--parent", parent]));
        let mut command = self.command(&arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A program that fails early does not read everything.
        let _ = child.stdin.take().unwrap().write_all(tar);
        child.wait_with_output().unwrap()
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.ok(&["list"]).lines().map(str::to_owned).collect()
    }

    /// What the store's home holds besides layers: nothing temporary may be left.
    pub(crate) fn assert_clean(&self) {
        self.ok(&["check"]);
    }

    /// The contents of a file in a layer.
    pub(crate) fn read(&self, id: &str, path: &str) -> Option<String> {
        let root = self.ok(&["mount", id]);
        let contents = std::fs::read_to_string(Path::new(root.trim_end()).join(path)).ok();
        self.ok(&["unmount", id]);
        contents
    }
}

/// One entry of a tar.
pub(crate) enum Entry<'a> {
    Dir(&'a str),
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
}

/// A tar of files that belong to root.
pub(crate) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_mtime(1_700_000_000);
        match entry {
            Entry::Dir(name) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, name, &[][..]).unwrap();
            }
            Entry::File(name, contents) => append(&mut builder, header, name, contents.as_bytes()),
            Entry::Link(name, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// Adds a file under any name, hostile ones too.
pub(crate) fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    mut header: tar::Header,
    name: &str,
    contents: &[u8],
) {
    header.set_size(contents.len() as u64);
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    builder.append(&header, contents).unwrap();
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: impl AsRef<OsStr>) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(directory.as_ref())).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
