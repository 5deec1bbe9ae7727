//! A machine that QEMU makes: booted, listened to, ended.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::userland::Userland;
use crate::Result;
use crate::command::line;

/// What a guest is made of.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    /// Whether the processor's virtualisation is used. Where it is not usable the guest hangs, though `/dev/kvm` opens.
    pub(super) kvm: bool,
    pub(super) memory_mib: usize,
    /// Where the kernel's messages and QEMU's are kept.
    pub(super) logs: &'a Path,
}

/// Enough for the images of file systems in every case, which lie in memory.
pub(super) const MEMORY_MIB: usize = 3072;

/// A crash ends the guest. The kernel does not test its own cryptography first, nor guard against what a processor would guess: a third of the time to boot. Every process has its programs and
/// libraries at the same addresses, so that what QEMU has translated for one serves the next: a third of the time where many are run. The kernel does not give up on a timer that is late
/// because this machine is busy.
const KERNEL_OPTIONS: &str =
    "console=ttyS0 quiet panic=-1 oops=panic cryptomgr.notests mitigations=off norandmaps no_timer_check";

const KVM: &str = "/dev/kvm";

/// Says what is missing if this machine offers no virtualisation by its processor. That the device opens does not mean that a guest boots.
pub(super) fn check_kvm() -> Result<()> {
    match File::options().read(true).write(true).open(KVM) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{KVM}: {error}: without --kvm, guests run by emulation").into()),
    }
}

/// A running guest, which ends with this.
#[derive(Debug)]
pub(super) struct Guest {
    qemu: Child,
    output: Receiver<Vec<u8>>,
    console: PathBuf,
    errors: PathBuf,
}

/// What came from a guest.
#[derive(Debug)]
pub(super) enum Heard {
    Bytes(Vec<u8>),
    /// Nothing until the deadline.
    Silence,
    /// It is switched off, or crashed.
    End,
}

impl Machine<'_> {
    pub(super) fn boot(&self, userland: &Userland) -> Result<Guest> {
        let (console, errors) = (self.logs.join("console.log"), self.logs.join("qemu.log"));
        let mut command = qemu(userland);
        // Emulated, an older processor is a quarter faster: programs then do without the wide registers, and the kernel without guards, of newer ones.
        let (accelerator, processor) = if self.kvm { ("kvm", "max") } else { ("tcg", "Nehalem") };
        // One processor: with two, software emulation is slower.
        command.args(["-machine", "pc", "-cpu", processor, "-smp", "1", "-accel", accelerator]);
        command.args(["-m", &self.memory_mib.to_string()]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd);
        command.args(["-append", KERNEL_OPTIONS]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
        ]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        // Not `stdio`: the end of standard input would close the port.
        command.args(["-device", "virtio-serial-pci", "-chardev", "file,id=results,path=/dev/stdout"]);
        command.args(["-device", "virtserialport,chardev=results,name=results"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut qemu = command.spawn().map_err(|error| format!("{}: {error}", line(&command)))?;
        let output = forward(qemu.stdout.take().ok_or("QEMU has no output")?);
        Ok(Guest { qemu, output, console, errors })
    }
}

/// The machine's own QEMU, or else that of the packages.
fn qemu(userland: &Userland) -> Command {
    const NAME: &str = "qemu-system-x86_64";
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(program) = std::env::split_paths(&path).map(|dir| dir.join(NAME)).find(|file| file.is_file())
    {
        return Command::new(program);
    }
    let mut command = userland.command(&format!("usr/bin/{NAME}"));
    // It would look next to the loader that starts it.
    command.env("QEMU_MODULE_DIR", userland.file("usr/lib/x86_64-linux-gnu/qemu"));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(userland.file(firmware));
    }
    command
}

fn forward(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Guest {
    /// Waits for what the guest has to say.
    pub(super) fn listen(&self, deadline: Instant) -> Heard {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => Heard::Bytes(bytes),
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// Ends it, after a moment in which it may switch itself off.
    pub(super) fn end(&mut self) -> Result<ExitStatus> {
        for _ in 0..50 {
            if let Some(status) = self.qemu.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(100));
        }
        self.qemu.kill()?;
        Ok(self.qemu.wait()?)
    }

    /// The last of what kernel and QEMU said, for people who ask why a guest ended.
    pub(super) fn last_words(&self) -> String {
        [&self.console, &self.errors].into_iter().map(|log| tail(log)).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Of a process that has ended there is nothing to kill.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().flat_map(|line| ["  | ", line.trim_end(), "\n"]).collect()
}
