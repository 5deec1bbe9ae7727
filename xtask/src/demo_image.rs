//! A small real OCI image, made from this machine's own shell and the libraries that it needs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Result;

/// Programs of the image besides the shell; those that this machine lacks are left out.
const PROGRAMS: [&str; 10] = ["cat", "chmod", "cksum", "cp", "find", "ln", "ls", "mkdir", "mv", "rm"];

/// Modification time of every file, so that the image is the same whenever it is made (2024-01-01).
const MTIME: u64 = 1_704_067_200;

/// How a layer's tar is stored.
#[derive(Clone, Copy)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Writes an OCI image layout of three layers to `directory`: a shell with its libraries, an application, and a layer that takes
/// parts of it away again with whiteouts.
///
/// # Errors
/// When a file of the machine cannot be read or the image cannot be written.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for (tar, compression) in [
        (shell_layer()?, Compression::None),
        (application_layer()?, Compression::Gzip),
        (whiteout_layer()?, Compression::Zstd),
    ] {
        diff_ids.push(digest(&tar));
        let (blob, media_type) = compress(tar, compression)?;
        layers.push(store(&blobs, &blob, media_type)?);
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = store(&blobs, &serde_json::to_vec(&config)?, "application/vnd.oci.image.config.v1+json")?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers });
    let manifest = store(&blobs, &serde_json::to_vec(&manifest)?, manifest_type)?;
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(directory.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

/// The image specification's name of this machine's architecture (Go's, not Rust's).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn shell_layer() -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    for directory in ["bin", "dev", "etc", "proc", "root", "srv", "sys", "tmp", "usr"] {
        layer.directory(directory, if directory == "tmp" { 0o1777 } else { 0o755 })?;
    }
    let shell = program("sh").ok_or("this machine has no /bin/sh")?;
    let programs = PROGRAMS.iter().filter_map(|name| Some((*name, program(name)?)));
    let mut libraries = BTreeSet::new();
    for (name, path) in std::iter::once(("sh", shell)).chain(programs) {
        layer.file(&format!("bin/{name}"), 0o755, &fs::read(&path)?)?;
        libraries.extend(shared_libraries(&path)?);
    }
    for library in libraries {
        let name = library.strip_prefix("/").unwrap_or(&library).to_owned();
        layer.file(&name.to_string_lossy(), 0o755, &fs::read(&library)?)?;
    }
    layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    layer.file("etc/motd", 0o644, b"A root file system out of three layers.\n")?;
    Ok(layer.finish())
}

fn application_layer() -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    layer.directory("srv/app", 0o755)?;
    layer.file("srv/app/config", 0o644, b"colour = blue\n")?;
    layer.file("srv/app/data", 0o600, &vec![b'x'; 100_000])?;
    layer.directory("srv/app/cache", 0o755)?;
    for number in 0..20 {
        layer.file(&format!("srv/app/cache/{number:02}"), 0o644, format!("entry {number}\n").as_bytes())?;
    }
    layer.file("srv/app/obsolete", 0o644, b"to be deleted\n")?;
    Ok(layer.finish())
}

fn whiteout_layer() -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    layer.directory("srv/app", 0o755)?;
    layer.file("srv/app/.wh.obsolete", 0, b"")?;
    layer.directory("srv/app/cache", 0o755)?;
    layer.file("srv/app/cache/.wh..wh..opq", 0o644, b"")?;
    layer.file("srv/app/cache/fresh", 0o644, b"all other entries are hidden\n")?;
    layer.file("etc/motd", 0o644, b"Edit me.\n")?;
    Ok(layer.finish())
}

fn program(name: &str) -> Option<PathBuf> {
    ["/bin", "/usr/bin"].iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists())
}

/// The libraries and the loader of a program, as `ldd(1)` of the C library lists them; none for a static program.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths =
        text.split_whitespace().filter(|word| word.starts_with('/')).map(|word| word.trim_end_matches(':'));
    Ok(paths.map(PathBuf::from).filter(|path| path != program).collect())
}

/// A layer's tar being written; directories on the way to a file are added as needed.
#[derive(Default)]
struct Layer {
    tar: Vec<u8>,
    directories: BTreeSet<String>,
}

impl Layer {
    fn directory(&mut self, name: &str, mode: u32) -> Result<()> {
        if self.directories.insert(name.to_owned()) {
            self.entry(&format!("{name}/"), tar::EntryType::Directory, mode, b"")?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        let parents: Vec<String> = name.match_indices('/').map(|(end, _)| name[..end].to_owned()).collect();
        for parent in parents {
            self.directory(&parent, 0o755)?;
        }
        self.entry(name, tar::EntryType::Regular, mode, data)
    }

    fn entry(&mut self, name: &str, kind: tar::EntryType, mode: u32, data: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(MTIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(data);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 1024, 0);
        self.tar
    }
}

fn compress(tar: Vec<u8>, compression: Compression) -> Result<(Vec<u8>, &'static str)> {
    Ok(match compression {
        Compression::None => (tar, "application/vnd.oci.image.layer.v1.tar"),
        Compression::Gzip => {
            let mut encoder = flate2::read::GzEncoder::new(&tar[..], flate2::Compression::default());
            let mut blob = Vec::new();
            encoder.read_to_end(&mut blob)?;
            (blob, "application/vnd.oci.image.layer.v1.tar+gzip")
        }
        Compression::Zstd => (zstd::encode_all(&tar[..], 3)?, "application/vnd.oci.image.layer.v1.tar+zstd"),
    })
}

/// Writes a blob and returns its descriptor.
fn store(blobs: &Path, data: &[u8], media_type: &str) -> Result<Value> {
    let digest = digest(data);
    let name = digest.trim_start_matches("sha256:");
    fs::File::create(blobs.join(name))?.write_all(data)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": data.len() }))
}

fn digest(data: &[u8]) -> String {
    let hash = Sha256::digest(data);
    hash.iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}
