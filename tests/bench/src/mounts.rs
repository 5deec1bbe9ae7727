//! Mounting stacks of layers.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use graphdriver::{CreateOptions, Graph, LayerId, LayerKind, MountOptions, OpenOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::peer::{self, Store, run as run_command};
use crate::samples::Samples;
use crate::{Peers, Result, Row, Setting};

/// Numbers of layers in a stack.
const DEPTHS: [usize; 4] = [1, 10, 100, 500];

/// How often a call is measured, and a command.
const CALLS: usize = 500;
const COMMANDS: usize = 40;

pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let depths = if setting.quick { &DEPTHS[..2] } else { &DEPTHS };
    let deepest = depths.iter().max().copied().unwrap_or_default();
    let options = OpenOptions::new(setting.dir.join("root"), setting.dir.join("run"));
    let graph = graphdriver::registry().open("overlay", &options)?;
    make_chain(&graph, deepest)?;
    let store = match peer::version() {
        Some(_) => Some(make_peers_chain(&setting.dir.join("peer"), deepest)?),
        None => None,
    };
    let calls = setting.times(CALLS);
    let mut rows = vec![bind_mount(&setting.dir, calls)?];
    for depth in depths {
        rows.extend(in_process(&graph, *depth, calls)?);
    }
    let open = || Ok(graphdriver::registry().open("overlay", &options).map(drop)?);
    rows.push(row("open a home, library", Samples::take(calls, open)?));
    for depth in depths {
        rows.push(by_command(setting, store.as_ref(), *depth)?);
    }
    Ok(rows)
}

fn name(number: usize) -> String {
    format!("layer-{number}")
}

fn make_chain(graph: &Graph, length: usize) -> Result<()> {
    let mut parent: Option<LayerId> = None;
    for number in 1..=length {
        let id: LayerId = name(number).parse()?;
        let options = CreateOptions { parent, kind: LayerKind::ReadWrite, ..CreateOptions::default() };
        graph.create(&id, &options)?;
        parent = Some(id);
    }
    Ok(())
}

fn make_peers_chain(dir: &Path, length: usize) -> Result<Store> {
    let store = Store::new(dir)?;
    for number in 1..=length {
        let (id, parent) = (name(number), name(number - 1));
        let mut words = vec!["create-layer", "--id", &id];
        words.extend((number > 1).then_some(parent.as_str()));
        store.run(&words)?;
    }
    Ok(store)
}

/// For scale: the least that the kernel does for a mount.
fn bind_mount(dir: &Path, calls: usize) -> Result<Row> {
    let [from, to] = ["from", "to"].map(|name| dir.join(name));
    std::fs::create_dir(&from)?;
    std::fs::create_dir(&to)?;
    let samples = Samples::take(calls, || {
        mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(umount2(&to, MntFlags::MNT_DETACH)?)
    })?;
    Ok(row("bind mount and unmount, for scale", samples))
}

/// The library's own time, without a process.
fn in_process(graph: &Graph, depth: usize, calls: usize) -> Result<[Row; 2]> {
    let id: LayerId = name(depth).parse()?;
    let (mut mounting, mut unmounting) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let start = Instant::now();
        let mounted = graph.mount(&id, &MountOptions::default())?;
        mounting.push(start.elapsed());
        let start = Instant::now();
        mounted.unmount()?;
        unmounting.push(start.elapsed());
    }
    Ok([
        row(&format!("mount {depth} layers, library"), Samples::of(mounting)),
        row(&format!("unmount {depth} layers, library"), Samples::of(unmounting)),
    ])
}

/// Both as their users' scripts run them, the start of the process included.
fn by_command(setting: &Setting, store: Option<&Store>, depth: usize) -> Result<Row> {
    let id = name(depth);
    let count = setting.times(COMMANDS);
    let ours = || {
        for verb in ["mount", "unmount"] {
            let mut command = Command::new(&setting.command);
            command
                .arg("--root")
                .arg(setting.dir.join("root"))
                .arg("--run-root")
                .arg(setting.dir.join("run"));
            run_command(command.args(["--driver", "overlay", verb, &id]))
                .map_err(|error| format!("graphdriver {verb} {id}: {error}"))?;
        }
        Ok(())
    };
    let what = format!("mount and unmount {depth} layers, command");
    let Some(store) = store else { return Ok(row(&what, Samples::take(count, ours)?)) };
    if let Err(error) = store.mount(&id) {
        let peers = Peers::Refused(error.to_string());
        return Ok(Row { what, ours: Samples::take(count, ours)?, peers });
    }
    store.run(&["unmount", &id])?;
    let (ours, peers) = Samples::alternate(count, ours, || {
        store.mount(&id)?;
        store.run(&["unmount", &id]).map(drop)
    })?;
    Ok(Row { what, ours, peers: Peers::Took(peers) })
}

fn row(what: &str, ours: Samples) -> Row {
    Row { what: what.to_owned(), ours, peers: Peers::None }
}
