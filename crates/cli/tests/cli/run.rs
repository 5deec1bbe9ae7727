//! Commands in layers. The layer is this machine's own shell with the libraries that it needs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::store::Store;

/// A store with the layer `shell`.
fn store() -> Store {
    let store = Store::new();
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(true);
    for path in shell_and_libraries() {
        builder.append_path_with_name(&path, path.strip_prefix("/").unwrap()).unwrap();
    }
    let output = store.apply("shell", None, &builder.into_inner().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    store
}

fn shell_and_libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg("/bin/sh").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    [PathBuf::from("/bin/sh")].into_iter().chain(libraries).collect()
}

fn sh(store: &Store, script: &str) -> Output {
    store.run(&["run", "shell", "--", "/bin/sh", "-c", script])
}

/// Whatever happened: the layer of the command is gone, and nothing is mounted any more.
fn assert_removed(store: &Store) {
    assert_eq!(store.list(), ["shell"]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(store.path("root").to_str().unwrap()), "{mounts}");
}

#[test]
#[ignore = "needs root"]
fn status_and_output_are_the_commands() {
    let store = store();
    let output = sh(&store, "echo out; echo err >&2; exit 7");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let statuses = [("kill -KILL $$", 137), ("kill -TERM $$", 143), ("exec /nonesuch", 127), ("exit 0", 0)];
    for (script, status) in statuses {
        assert_eq!(sh(&store, script).status.code(), Some(status), "{script}");
    }
    for (program, status) in [("nonesuch", 127), ("/lib", 126)] {
        let output = store.run(&["run", "shell", "--", program]);
        assert_eq!(output.status.code(), Some(status), "{program}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(program));
    }
    assert_removed(&store);
}

#[test]
#[ignore = "needs root"]
fn the_container_has_what_programs_expect() {
    let store = store();
    let script = r#"
        read hostname < /proc/sys/kernel/hostname; echo "$hostname $PWD $HOME $$ $(umask)"
        for device in null zero full random urandom tty ptmx; do [ -c /dev/$device ] || echo no $device; done
        for file in /proc/1/status /sys/kernel /dev/fd/0 /dev/shm /dev/pts; do [ -e $file ] || echo no $file; done
        echo x > /dev/null || echo null is no null
        (echo x > /sys/kernel/profiling) 2> /dev/null && echo /sys is writable
        [ -e /etc/passwd ] && echo the host is in sight
        count=0; while read -r line; do count=$((count + 1)); done < /proc/self/mountinfo; echo $count
    "#;
    let output = sh(&store, script);
    // The layer, /proc, /dev, six devices, /dev/pts, /dev/shm, /sys: nothing of the host's.
    let expected = "graphdriver / /root 2 0022\n12\n";
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{stderr}");
    assert_removed(&store);
}

#[test]
#[ignore = "needs root"]
fn changes_are_printed_and_gone() {
    let store = store();
    let script = "echo new > /new; echo x >> /bin/added";
    let output = store.run(&["run", "shell", "--changes", "--", "/bin/sh", "-c", script]);
    let changes = String::from_utf8(output.stdout).unwrap();
    assert!(changes.contains("A /new\n") && changes.contains("A /bin/added\n"), "{changes}");
    let output = store.run(&["run", "shell", "--changes", "--", "/bin/sh", "-c", "[ -e /new ] && exit 1"]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("/new"));
    assert_removed(&store);
}

#[test]
#[ignore = "needs root"]
fn signals_reach_the_command_and_the_layer_goes() {
    let store = store();
    // The first catches it, the second dies of it, the third ignores it and has to be killed.
    let scripts = [
        ("trap 'exit 9' TERM; echo ready; read x", 9),
        ("echo ready; read x", 143),
        ("trap '' TERM; echo ready; read x", 137),
    ];
    for (script, status) in scripts {
        let mut command = store.command(&["run", "shell", "--", "/bin/sh", "-c", script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        // Open until the end: the command must not have ended for want of input.
        let stdin = child.stdin.take();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{script}");
        drop(stdin);
        assert_removed(&store);
    }
}

#[test]
#[ignore = "needs root"]
fn orphans_end_with_the_command() {
    let store = store();
    // The orphan has our pipe open and waits for a terminal's other end, which never comes: this hangs unless it is killed.
    let output = sh(&store, "(read x < /dev/ptmx & ); echo done");
    assert_eq!(output.stdout, b"done\n");
    assert_removed(&store);
}

#[test]
#[ignore = "needs root"]
fn keys_on_the_terminal_reach_the_command() {
    let store = store();
    let mut terminal = Terminal::run(&store, &["run", "shell", "--", "/bin/sh", "-c", "echo ready; read x"]);
    terminal.expect("ready");
    terminal.press("\x03");
    assert_eq!(terminal.status(), Some(130));

    // A shell that takes the terminal, and gives it back to nobody when it ends.
    let mut terminal = Terminal::run(&store, &["run", "shell"]);
    terminal.press("[ -t 0 ] && echo is a $((1 + 0))st rate terminal\n");
    terminal.expect("is a 1st rate terminal");
    terminal.press("exit 5\n");
    assert_eq!(terminal.status(), Some(5));
    assert_removed(&store);
}

/// The program on a terminal of its own.
struct Terminal {
    child: std::process::Child,
    master: File,
    seen: String,
}

impl Terminal {
    fn run(store: &Store, arguments: &[&str]) -> Self {
        let pty = openpty(None, None).unwrap();
        let plain = store.command(arguments);
        // A session of its own, with the terminal as its controlling one. Whoever was started in the background of a script ignores the terminal's signals.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT,QUIT", "setsid", "--ctty", "--wait"])
            .arg(plain.get_program())
            .args(plain.get_args());
        command
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave);
        Self { child: command.spawn().unwrap(), master: pty.master.into(), seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn expect(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.seen.contains(text) {
            let read =
                self.master.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
#[ignore = "needs root"]
fn a_layer_cannot_send_mounts_elsewhere() {
    let store = Store::new();
    let outside = store.path("outside");
    fs::create_dir(&outside).unwrap();
    let entries = [crate::store::Entry::Link("proc", outside.to_str().unwrap())];
    assert!(store.apply("hostile", None, &crate::store::tar(&entries)).status.success());
    let output = store.run(&["run", "hostile", "--", "/bin/sh"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_dir(Path::new(&outside)).unwrap().next().is_none());
}
