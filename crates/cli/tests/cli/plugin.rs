//! The plugin as service managers and Docker see it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::store::{PROGRAM, Store};

/// Nothing takes longer, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user, and a group, that nobody has told anything about.
const USER: u32 = 54_321;

/// A running `plugin serve`, and the socket of its service manager.
struct Plugin {
    process: Child,
    notified: UnixDatagram,
}

impl Plugin {
    /// Starts it, and waits until it says that it is ready.
    fn start(store: &Store, mut command: Command) -> Self {
        let socket = store.path("notify");
        // Of one that ran before.
        let _ = fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(PATIENCE)).unwrap();
        let process = command.env("NOTIFY_SOCKET", &socket).spawn().unwrap();
        let plugin = Self { process, notified };
        assert_eq!(plugin.notification(), "READY=1\n");
        plugin
    }

    fn notification(&self) -> String {
        let mut buffer = [0; 100];
        let length = self.notified.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn end(mut self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(self.notification(), "STOPPING=1\n", "{signal}");
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "{signal}");
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // Ended already, unless a test fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `plugin serve` on the store's socket.
fn serve(store: &Store, options: &[&str]) -> Command {
    let socket = store.path("socket");
    store.command(
        &[&["plugin", "serve", "--name", "gd", "--socket", socket.to_str().unwrap()], options].concat(),
    )
}

/// Runs its arguments in a mount namespace where what the plugin writes below `/etc` and `/run` goes nowhere.
fn aside(plain: &Command) -> Command {
    let script = "mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /run && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "--", "sh", "-c", script, "sh"]);
    command.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
    command
}

/// `list` with the driver `plugin:gd`, beside a plugin that is [`aside`]; `who` are options of setpriv(1).
fn client(plugin: &Plugin, who: &[&str], program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &plugin.process.id().to_string(), "setpriv"]).args(who).arg(program);
    command.args(["--root", "/run/of-client", "--run-root", "/run/of-client/run"]);
    command.args(["--driver", "plugin:gd", "-o", "plugin.connect_timeout=0", "list"]).current_dir("/");
    command
}

/// The answer to a call that is made on `stream`.
fn call(mut stream: impl Read + Write, method: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "POST /{method} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{method}: {answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn connect(store: &Store) -> UnixStream {
    UnixStream::connect(store.path("socket")).unwrap()
}

const ACTIVATED: &str = r#"{"Implements":["GraphDriver","LayerInventory"]}"#;

#[test]
fn it_serves_until_a_signal_ends_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let store = Store::new();
        let plugin = Plugin::start(&store, serve(&store, &[]));
        assert_eq!(store.path("socket").metadata().unwrap().mode() & 0o777, 0o660);
        assert_eq!(call(connect(&store), "Plugin.Activate", ""), ACTIVATED);
        // One that is silent does not keep it.
        let _idle = connect(&store);
        plugin.end(signal);
        assert!(!store.path("socket").exists());
    }
}

#[test]
fn what_cannot_be_served() {
    let store = Store::new();
    for (options, expected) in [
        (&["--tcp", "0.0.0.0:0"][..], "say --remote"),
        (&["--gid", "no such group"], "there is no group \"no such group\""),
    ] {
        let message = store.fails(&[&["plugin", "serve", "--name", "gd"], options].concat(), 2);
        assert!(message.contains(expected), "{message}");
    }
    let plugin = Plugin::start(&store, serve(&store, &[]));
    let second = serve(&store, &[]).output().unwrap();
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(second.status.code() == Some(2) && message.contains("another server listens there"), "{message}");
    plugin.end(Signal::SIGTERM);
}

#[test]
fn sockets_of_the_service_manager_come_first() {
    let store = Store::new();
    let unix = UnixListener::bind(store.path("made")).unwrap();
    // Who comes before the plugin does waits.
    let early = UnixStream::connect(store.path("made")).unwrap();
    let plugin = Plugin::start(&store, with_socket(unix.into(), &serve(&store, &[])));
    assert!(!store.path("socket").exists());
    assert_eq!(call(early, "Plugin.Activate", ""), ACTIVATED);
    plugin.end(Signal::SIGTERM);
    assert!(store.path("made").exists(), "it is the service manager's");
}

/// The command with a socket that it inherits, as systemd passes it.
fn with_socket(socket: OwnedFd, plain: &Command) -> Command {
    let script = r#"exec 3<&0 < /dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.stdin(Stdio::from(socket));
    command
}

#[test]
#[ignore = "needs root"]
fn a_port_is_told_by_a_file() {
    let store = Store::new();
    let plain = store.command(&["plugin", "serve", "--name", "gd", "--tcp", "127.0.0.1:0"]);
    let plugin = Plugin::start(&store, aside(&plain));
    // Its mount namespace goes with it, and what was opened there does not.
    let dir = File::open(format!("/proc/{}/root/etc/docker/plugins", plugin.process.id())).unwrap();
    let file = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join("gd.spec");
    let told = fs::read_to_string(&file).unwrap();
    let stream = TcpStream::connect(told.strip_prefix("tcp://").unwrap()).unwrap();
    assert_eq!(call(stream, "Plugin.Activate", ""), ACTIVATED);
    let found = client(&plugin, &["--reuid", "0"], PROGRAM).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    plugin.end(Signal::SIGTERM);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 0);

    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let told = format!("tcp://{}", inherited.local_addr().unwrap());
    let plugin = Plugin::start(&store, with_socket(inherited.into(), &aside(&plain)));
    let file = format!("/proc/{}/root/etc/docker/plugins/gd.spec", plugin.process.id());
    assert_eq!(fs::read_to_string(file).unwrap(), told);
    plugin.end(Signal::SIGTERM);
}

#[test]
#[ignore = "needs root"]
fn mounts_outlive_it_unless_they_are_to_go() {
    let store = Store::new();
    let overlay = |options: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--run-root").arg(store.path("run")).args(["--driver", "overlay", "plugin", "serve"]);
        command.args(["--name", "gd", "--socket"]).arg(store.path("socket")).args(options);
        command
    };
    let is_mounted = |path: &str| fs::read_to_string("/proc/self/mountinfo").unwrap().contains(path);
    let plugin = Plugin::start(&store, overlay(&[]));
    let home = store.path("home");
    call(connect(&store), "GraphDriver.Init", &format!(r#"{{"Home":{home:?}}}"#));
    call(connect(&store), "GraphDriver.CreateReadWrite", r#"{"ID":"layer"}"#);
    let got = call(connect(&store), "GraphDriver.Get", r#"{"ID":"layer"}"#);
    let dir = home.join("overlay/layer/merged");
    assert_eq!(got, format!(r#"{{"Dir":{dir:?}}}"#));
    plugin.end(Signal::SIGTERM);
    assert!(is_mounted(dir.to_str().unwrap()));
    // Docker speaks to the next one as if there had been no other.
    let plugin = Plugin::start(&store, overlay(&["--unmount"]));
    fs::write(dir.join("file"), "written").unwrap();
    let changes = call(connect(&store), "GraphDriver.Changes", r#"{"ID":"layer"}"#);
    assert_eq!(changes, r#"{"Changes":[{"Path":"/file","Kind":1}]}"#);
    plugin.end(Signal::SIGTERM);
    assert!(!is_mounted(dir.to_str().unwrap()));
    assert_eq!(fs::read(home.join("overlay/layer/diff/file")).unwrap(), b"written");
}

/// The same program is the plugin and, as another user, its client.
#[test]
#[ignore = "needs root"]
fn only_root_and_the_group_may_call() {
    let store = Store::new();
    let plain = store.command(&["plugin", "serve", "--name", "gd", "--gid", &USER.to_string()]);
    let plugin = Plugin::start(&store, aside(&plain));
    let root = format!("/proc/{}/root", plugin.process.id());
    let socket = Path::new(&root).join("run/docker/plugins/gd.sock");
    let metadata = socket.metadata().unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o777), (USER, 0o660));
    // Where the program is built, nobody else may be allowed to look.
    let copy =
        Command::new("cp").arg(PROGRAM).arg(Path::new(&root).join("run/graphdriver")).status().unwrap();
    assert!(copy.success());
    let list = |who: &[&str]| {
        let Output { status, stderr, .. } = client(&plugin, who, "/run/graphdriver").output().unwrap();
        (status.success(), String::from_utf8(stderr).unwrap())
    };
    fs::create_dir(Path::new(&root).join("run/of-client")).unwrap();
    std::os::unix::fs::chown(Path::new(&root).join("run/of-client"), Some(USER), Some(USER)).unwrap();
    let (of_group, other) = (USER.to_string(), (USER + 1).to_string());
    let user = |group: &str| list(&["--reuid", &of_group, "--regid", group, "--clear-groups"]);
    assert_eq!(list(&["--reuid", "0"]), (true, String::new()));
    let (may, message) = user(&of_group);
    assert!(may, "{message}");
    let (may, message) = user(&other);
    assert!(!may && message.contains("Permission denied"), "{message}");
    // Where the file lets everybody in, the kernel still tells who it is.
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let (may, message) = user(&other);
    let expected = format!("uid {USER} may not call");
    assert!(!may && message.contains(&expected), "{message}");
    plugin.end(Signal::SIGTERM);
}
