//! Processes that are killed at each of their system calls in turn: every layer is complete or absent, and nothing else is left.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use graphdriver_archive::{ApplyOptions, RootDir};
use graphdriver_core::{
    CreateOptions, Differ, DifferOutput, ErrorKind, Graph, LayerApplyOptions, LayerKind, Result,
};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use support::intact::{CONTENTS, assert_filled, assert_intact};
use support::{Store, archive, base, id, names, on};

/// Tells a child process where its store is.
const ROOT: &str = "OVERLAY_TEST_ROOT";

/// Fewer calls than any of these takes: then something else was traced.
const FEWEST_CALLS: usize = 50;

/// Runs the test `name` once more in child processes that `prepare` in the store's directory and are killed while they `act`. `restore` makes the home what it was, and leaves something to do.
fn kill_everywhere<T>(
    name: &str,
    restore: impl Fn(&Store, &Graph),
    prepare: impl Fn(&Path) -> T,
    act: impl Fn(&T),
) {
    if let Some(root) = env::var_os(ROOT).map(PathBuf::from) {
        let prepared = prepare(&root);
        return be_traced(|| act(&prepared));
    }
    let store = Store::new();
    let graph = store.open();
    graph.create(&id("base"), &base()).unwrap();
    restore(&store, &graph);
    let calls = Traced::start(name, &store).run(None).unwrap_err();
    assert_intact(&store, &store.open());
    assert!(calls >= FEWEST_CALLS, "only {calls} calls");
    let mut killed = 0;
    for place in 0..calls {
        restore(&store, &graph);
        killed += usize::from(Traced::start(name, &store).run(Some(place)).is_ok());
        assert_intact(&store, &store.open());
    }
    // One run makes a few calls more than another.
    assert!(killed >= FEWEST_CALLS && killed + 10 >= calls, "killed at {killed} of {calls} calls");
    restore(&store, &graph);
    assert_intact(&store, &store.open());
}

/// The child's half: says which thread is to be looked at, waits until it is, acts, and ends.
fn be_traced(act: impl Fn()) {
    println!("\ntraced {} {}", std::process::id(), gettid());
    io::stdout().flush().unwrap();
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    act();
    std::process::exit(0);
}

/// A process of which one thread stops at its system calls.
struct Traced {
    child: Child,
    thread: Pid,
}

impl Traced {
    fn start(name: &str, store: &Store) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(ROOT, store.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(io::Result::ok);
        let line = lines.find(|line| line.starts_with("traced ")).expect("the child did not begin");
        let thread = Pid::from_raw(line.rsplit(' ').next().unwrap().parse().unwrap());
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).unwrap();
        ptrace::interrupt(thread).unwrap();
        assert!(matches!(wait(thread), WaitStatus::PtraceEvent(..)));
        Self { child, thread }
    }

    /// Lets it make so many calls and kills it before the next. Of one that comes to its end, the number of its calls is the error.
    fn run(mut self, calls: Option<usize>) -> std::result::Result<(), usize> {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut stops = 0;
        let mut signal = None;
        // Each call stops the thread twice. The first is the end of the one that waited for the line.
        while calls.is_none_or(|calls| stops < 2 * (calls + 1)) {
            ptrace::syscall(self.thread, signal.take()).unwrap();
            match wait(self.thread) {
                WaitStatus::PtraceSyscall(_) => stops += 1,
                WaitStatus::Stopped(_, raised) => signal = Some(raised),
                WaitStatus::PtraceEvent(..) => {}
                WaitStatus::Exited(_, status) => {
                    assert_eq!(status, 0, "the child failed by itself");
                    self.reap();
                    return Err(stops / 2);
                }
                other => panic!("{other:?}"),
            }
        }
        self.child.kill().unwrap();
        while !matches!(wait(self.thread), WaitStatus::Signaled(..) | WaitStatus::Exited(..)) {}
        self.reap();
        Ok(())
    }

    /// A thread that is not the first ends before its process does.
    fn reap(&mut self) {
        if self.thread.as_raw() != i32::try_from(self.child.id()).unwrap() {
            self.child.wait().unwrap();
        }
    }
}

fn wait(thread: Pid) -> WaitStatus {
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap()
}

/// Removes the layer if it is there.
fn forget(graph: &Graph, layer: &str) {
    match graph.remove(&id(layer)) {
        Err(error) if error.kind() == ErrorKind::LayerUnknown => {}
        result => result.unwrap(),
    }
}

fn fill(graph: &Graph, layer: &str) {
    let tar = archive(&CONTENTS);
    graph.create_filled(&id(layer), &on("base"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap();
}

/// Makes the files of the others by hand.
#[derive(Debug)]
struct ByHand;

impl Differ for ByHand {
    fn fill(&mut self, directory: &RootDir, _: &ApplyOptions) -> Result<DifferOutput> {
        for name in CONTENTS {
            let path = directory.path().join(name);
            match name.strip_suffix('/') {
                Some(_) => fs::create_dir(path).unwrap(),
                None => File::create_new(path).unwrap().write_all(name.as_bytes()).unwrap(),
            }
        }
        Ok(DifferOutput::default())
    }
}

#[test]
#[ignore = "needs root"]
fn while_a_layer_is_created() {
    kill_everywhere(
        "while_a_layer_is_created",
        |_, graph| forget(graph, "new"),
        support::open_at,
        |graph| {
            let options = CreateOptions { kind: LayerKind::ReadWrite, ..on("base") };
            graph.create(&id("new"), &options).unwrap();
        },
    );
}

#[test]
#[ignore = "needs root"]
fn while_an_archive_is_staged_and_committed() {
    kill_everywhere(
        "while_an_archive_is_staged_and_committed",
        |_, graph| forget(graph, "filled"),
        support::open_at,
        |graph| fill(graph, "filled"),
    );
}

#[test]
#[ignore = "needs root"]
fn while_a_differ_stages_and_commits() {
    kill_everywhere(
        "while_a_differ_stages_and_commits",
        |_, graph| forget(graph, "filled"),
        support::open_at,
        |graph| {
            let power = graph.driver().staged_apply().unwrap();
            let staged = power.stage_with(&on("base"), &mut ByHand, &LayerApplyOptions::default());
            staged.unwrap().0.commit(&id("filled")).unwrap();
        },
    );
}

#[test]
#[ignore = "needs root"]
fn while_an_archive_is_applied_to_a_layer() {
    let name = "while_an_archive_is_applied_to_a_layer";
    kill_everywhere(
        name,
        |store, graph| {
            // Either all is there or nothing: a layer that has something has the contents.
            let diff = store.home().join("existing/diff");
            if diff.is_dir() && names(&diff) != ["written"] {
                assert_filled(&diff);
            }
            forget(graph, "existing");
            graph.create(&id("existing"), &on("base")).unwrap();
        },
        support::open_at,
        |graph| {
            let tar = archive(&CONTENTS);
            graph.apply(&id("existing"), &mut tar.as_slice(), &LayerApplyOptions::default()).unwrap();
        },
    );
}

#[test]
#[ignore = "needs root"]
fn while_a_layer_is_removed() {
    kill_everywhere(
        "while_a_layer_is_removed",
        |_, graph| {
            forget(graph, "filled");
            fill(graph, "filled");
        },
        support::open_at,
        |graph| graph.remove_deferred(&id("filled")).unwrap().finish().unwrap(),
    );
}

/// What one killed process left is being swept by another.
#[test]
#[ignore = "needs root"]
fn while_leftovers_are_removed() {
    kill_everywhere(
        "while_leftovers_are_removed",
        |store, _| {
            let temp_dirs = store.home().join("tempdirs");
            for name in ["a", "b"] {
                let layer = temp_dirs.join(format!("temp-dir-{name}/layer"));
                fs::create_dir_all(layer.join("diff/dir")).unwrap();
                fs::write(layer.join("diff/dir/file"), "").unwrap();
                fs::write(layer.join("link"), name.to_uppercase()).unwrap();
                File::create(temp_dirs.join(format!("lock-{name}"))).unwrap();
                symlink(format!("../{name}/diff"), store.home().join("l").join(name.to_uppercase())).unwrap();
            }
        },
        Path::to_owned,
        |root| drop(support::open_at(root)),
    );
}
