//! Another process that uses the layer: this program again, told by lines what to do.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use graphdriver_core::Result;

use crate::layer::Layer;

pub(crate) const ROLE: &str = "use-layer";

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(place: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ROLE)
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, requests, answers }
    }

    /// Asks for something and waits until it is done.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.request(request);
        self.answer()
    }

    pub(crate) fn request(&mut self, request: &str) {
        writeln!(self.requests, "{request}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Lets the process end by itself, without giving anything back.
    pub(crate) fn quit(mut self) {
        self.request("quit");
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills the process, which then can do nothing more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the process does: one answer for each request, until it is told to quit.
pub(crate) fn serve(mut args: impl Iterator<Item = OsString>) {
    let layer = Layer::new(&PathBuf::from(args.next().unwrap()));
    for request in std::io::stdin().lines() {
        let result = match &*request.unwrap() {
            "acquire" => layer.acquire(),
            "acquire persistent" => layer.acquire_persistent(),
            "release" => layer.release(),
            "remove" => layer.while_unused(|| ()).map(|()| true),
            "hammer" => hammer(&layer).map(|()| true),
            _ => return,
        };
        match result {
            Ok(true) => println!("ran"),
            Ok(false) => println!("not needed"),
            Err(error) => println!("{:?}", error.kind()),
        }
    }
}

/// Uses the layer from eight threads, a hundred times each.
pub(crate) fn hammer(layer: &Layer) -> Result<()> {
    std::thread::scope(|scope| {
        let work = || {
            for _ in 0..100 {
                layer.acquire()?;
                layer.release()?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}
