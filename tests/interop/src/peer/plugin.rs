//! One of our drivers as a plugin of dockerd: this very program, started in another role.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};

use graphdriver::plugin::{Listener, SOCKET_DIR, Server, Service};
use nix::sys::signal::Signal;

use super::room::{Room, end};

/// By which argument this program knows that it is to be the plugin.
pub(crate) const ROLE: &str = "--role=plugin";

/// What the plugin is called, and dockerd's storage driver.
pub(crate) const NAME: &str = "served";

/// A running plugin.
pub(crate) struct Plugin {
    process: Option<Child>,
}

impl Plugin {
    /// Starts it in `room`, where dockerd finds it by its name, and waits until it listens.
    pub(crate) fn start(room: &Room, driver: &str, run_root: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = room.command(program.to_str().unwrap());
        let mut process = command.args([ROLE, driver]).arg(run_root).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the plugin does not start");
        Self { process: Some(process) }
    }

    /// Ends it without a warning.
    pub(crate) fn kill(mut self) {
        end(self.process.take().unwrap(), Signal::SIGKILL);
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            end(process, Signal::SIGKILL);
        }
    }
}

/// What the plugin's process does, until it is killed: driver and run root are its arguments.
pub(crate) fn play(words: &[String]) -> ExitCode {
    let [driver, run_root] = words else { panic!("a driver and a run root") };
    let service = Service::new(graphdriver::registry(), Some(driver), run_root);
    service.resume().unwrap();
    let socket = Path::new(SOCKET_DIR).join(NAME).with_extension("sock");
    let server = Server::new(service, vec![Listener::unix(&socket, None).unwrap()]).unwrap();
    println!("ready");
    server.run().unwrap();
    ExitCode::SUCCESS
}
