//! Other processes that take part in a case: this program, started again in a role.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use graphdriver_archive::{IdMap, IdMaps};
use graphdriver_core::{CreateOptions, LayerApplyOptions, LayerId, MountOptions};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use crate::configuration::Configuration;
use crate::trials::Experiment;
use crate::{user_namespace, writer};

/// Found without walking directories that the ids in use here may not be allowed to enter.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Starts this program in a role, to be talked to over standard input and output.
pub fn spawn(role: &str, words: &[&OsStr], errors: Stdio) -> Child {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg(format!("--role={role}")).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap()
}

/// What a process that was started by [`spawn`] does.
pub fn play(role: &str, words: &[String]) -> ExitCode {
    match (role, words) {
        ("user-namespace", words) => return user_namespace::enter(words),
        ("case", [name, dir]) => return run_case(name, dir),
        ("hold", [configuration, dir, layer]) => hold(configuration, dir, layer),
        ("share", [configuration, dir, name, seconds]) => {
            let graph = || Configuration::named(configuration).open(Path::new(dir)).unwrap();
            crate::sharing::play(graph, name, seconds.parse().unwrap());
        }
        ("see-mounts", []) => see_mounts(),
        ("write", [name, bytes]) => writer::play_write(name, bytes.parse().unwrap()),
        ("make", [count]) => writer::play_make(count.parse().unwrap()),
        ("fill", [configuration, dir, layer, parent]) => fill(configuration, dir, layer, parent),
        ("update-id-map", [configuration, dir, layer]) => update_id_map(configuration, dir, layer),
        _ => panic!("no such role: {role} {words:?}"),
    }
    ExitCode::SUCCESS
}

fn run_case(name: &str, dir: &str) -> ExitCode {
    match Experiment::named(name).unwrap().run_in(PathBuf::from(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(need) => {
            println!("{need}");
            ExitCode::from(u8::try_from(user_namespace::LACKS).unwrap())
        }
    }
}

/// Mounts a layer and unmounts it when standard input ends.
fn hold(configuration: &str, dir: &str, layer: &str) {
    let graph = Configuration::named(configuration).open(Path::new(dir)).unwrap();
    let mount = graph.mount(&id(layer), &MountOptions::default()).unwrap();
    println!("{}", mount.path().display());
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    mount.unmount().unwrap();
}

/// Fills a new layer from the archive on standard input; a parent `-` is none.
fn fill(configuration: &str, dir: &str, layer: &str, parent: &str) {
    let graph = Configuration::named(configuration).open(Path::new(dir)).unwrap();
    let create = if parent == "-" { CreateOptions::default() } else { CreateOptions::on(&id(parent)) };
    graph.create_filled(&id(layer), &create, &mut io::stdin().lock(), &LayerApplyOptions::default()).unwrap();
}

/// Rewrites the owners of a layer, once it has said so.
fn update_id_map(configuration: &str, dir: &str, layer: &str) {
    let graph = Configuration::named(configuration).open(Path::new(dir)).unwrap();
    println!("started");
    graph.update_layer_id_map(&id(layer), &IdMaps::default(), &new_ids()).unwrap();
}

/// What owners are changed to.
fn new_ids() -> IdMaps {
    let range = vec![IdMap { container_id: 0, host_id: 1000, size: 100 }];
    IdMaps::new(range.clone(), range).unwrap()
}

/// Enters a mount namespace that has what is mounted now, and unmounts there what standard input names.
fn see_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    println!("ready");
    for path in io::stdin().lines() {
        umount2(path.unwrap().as_str(), MntFlags::MNT_DETACH).unwrap();
        println!("unmounted");
    }
}

fn id(text: &str) -> LayerId {
    text.parse().unwrap()
}

/// Another process that has a layer mounted.
pub struct Holder {
    child: Child,
    path: PathBuf,
}

impl Holder {
    /// Returns once it is mounted.
    pub fn start(configuration: &Configuration, dir: &Path, layer: &LayerId) -> Self {
        let words = [configuration.name.as_ref(), dir.as_os_str(), layer.as_str().as_ref()];
        let mut child = spawn("hold", &words, Stdio::inherit());
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the other process could not mount {layer}");
        Self { child, path: PathBuf::from(line.trim_end()) }
    }

    /// Where it has the layer.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it unmount and end.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it at once, without a chance to unmount.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Another process, in a mount namespace that has what was mounted here when it was started.
pub struct Onlooker {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Onlooker {
    pub fn start() -> Self {
        let mut child = spawn("see-mounts", &[], Stdio::inherit());
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut onlooker = Self { child, answers };
        onlooker.hear("ready");
        onlooker
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it unmount `path` in its namespace.
    pub fn unmount(&mut self, path: &Path) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{}", path.display()).unwrap();
        self.hear("unmounted");
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected, "the other process is in trouble");
    }

    /// Ends it, and its namespace with it.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// Another process that rewrites the owners of a layer, and is killed some time after it began.
pub fn update_half_way(configuration: &Configuration, dir: &Path, layer: &LayerId, after: Duration) {
    let words = [configuration.name.as_ref(), dir.as_os_str(), layer.as_str().as_ref()];
    let mut child = spawn("update-id-map", &words, Stdio::inherit());
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "started", "the other process is in trouble");
    std::thread::sleep(after);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.success() || status.signal() == Some(Signal::SIGKILL as i32),
        "the other process failed: {status}"
    );
}

/// Another process that fills a layer, and is killed when it has read `archive`, which is not all of it.
pub fn fill_half_way(
    configuration: &Configuration,
    dir: &Path,
    layer: &LayerId,
    parent: Option<&LayerId>,
    archive: &[u8],
) {
    let parent = parent.map_or("-", LayerId::as_str);
    let words = [configuration.name.as_ref(), dir.as_os_str(), layer.as_str().as_ref(), parent.as_ref()];
    let mut child = spawn("fill", &words, Stdio::inherit());
    let mut input = child.stdin.take().unwrap();
    input.write_all(archive).unwrap();
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    drop(input);
}
