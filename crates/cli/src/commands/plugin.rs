//! `plugin serve`: sockets, signals and service managers around the library's server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use graphdriver::plugin::{Listener, SEARCHED_DIRS, SOCKET_DIR, Server, Service, SpecFile, Stopper};
use graphdriver::{Error, ErrorKind, Registry};
use listenfd::ListenFd;
use nix::unistd::{Gid, Group};
use sd_notify::NotifyState;

use super::Session;
use crate::args::{Plugin, Serve};
use crate::failure::Result;
use crate::signals::{STOP, Signals};

pub(super) fn run(session: &Session, command: &Plugin) -> Result {
    match command {
        Plugin::Serve(args) => serve(session, args),
    }
}

fn serve(session: &Session, args: &Serve) -> Result {
    // Before the first thread, so that none takes one of them.
    let signals = Signals::block(STOP)?;
    let group = args.gid.as_deref().map(group).transpose()?;
    let service = service(session, &args.name);
    if let Err(error) = service.resume() {
        tracing::warn!(error = %error.report(), "what Docker said to the plugin before cannot be taken up; it has to be restarted");
    }
    let listeners = listeners(args, group)?;
    let _spec = match listeners.iter().find_map(Listener::tcp_address) {
        Some(address) => Some(SpecFile::write(Path::new(SEARCHED_DIRS[0]), &args.name, address)?),
        None => None,
    };
    let server = Server::new(service, listeners)?.with_group(group);
    stop_on_signal(signals, server.stopper());
    tell(&[NotifyState::Ready]);
    let ended = server.run();
    tell(&[NotifyState::Stopping]);
    if args.unmount {
        server.service().release()?;
    }
    Ok(ended?)
}

fn service(session: &Session, name: &str) -> Service {
    let store = &session.store;
    let options = store.options();
    let registry = Registry::clone(store.registry());
    let run_root = options.run_root.join("plugin").join(name);
    Service::new(registry, store.driver(), run_root).with_options(options.options.iter().cloned())
}

/// The sockets that the service manager has made, else those that were asked for, else the usual one.
fn listeners(args: &Serve, group: Option<Gid>) -> Result<Vec<Listener>, Error> {
    let mut listeners = inherited()?;
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    if let Some(address) = args.tcp {
        require_loopback(address, args.remote)?;
        listeners.push(Listener::tcp(address)?);
    }
    let usual = || PathBuf::from(SOCKET_DIR).join(format!("{}.sock", args.name));
    let socket = args.socket.clone().or_else(|| args.tcp.is_none().then(usual));
    if let Some(path) = socket {
        listeners.push(Listener::unix(&path, group)?);
    }
    Ok(listeners)
}

/// `sd_listen_fds(3)`.
fn inherited() -> Result<Vec<Listener>, Error> {
    let mut fds = ListenFd::from_env();
    let failed = |error| Error::io("take over", "inherited socket", error);
    let mut listeners = Vec::new();
    for index in 0..fds.len() {
        let unix = fds.take_unix_listener(index);
        listeners.push(match unix {
            Ok(Some(socket)) => Listener::from_unix(socket)?,
            Ok(None) => continue,
            Err(_) => match fds.take_tcp_listener(index).map_err(failed)? {
                Some(socket) => Listener::from_tcp(socket)?,
                None => continue,
            },
        });
    }
    Ok(listeners)
}

fn require_loopback(address: SocketAddr, remote: bool) -> Result<(), Error> {
    if remote || address.ip().is_loopback() {
        return Ok(());
    }
    let detail = format!(
        "whoever reaches {address} could do all that root can; take an address of the loopback interface, or say --remote"
    );
    Err(Error::new(ErrorKind::InvalidArgument, "listen").detail(detail))
}

fn group(text: &str) -> Result<Gid, Error> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(text).map_err(|errno| Error::syscall("getgrnam", text, errno))?;
    found.map(|group| group.gid).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, "find group").detail(format!("there is no group {text:?}"))
    })
}

/// The thread ends with the process.
fn stop_on_signal(signals: Signals, stopper: Stopper) {
    thread::spawn(move || {
        loop {
            if let Err(error) = signals.wait(None) {
                tracing::error!(error = %error.report(), "signals are not heard any more");
                return;
            }
            if let Some(signal) = signals.stop_request() {
                tracing::info!(%signal, "stopping");
                stopper.stop();
            }
        }
    });
}

/// Tells the service manager, where there is one (`sd_notify(3)`).
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
