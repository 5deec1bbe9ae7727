//! The messages in JSON, under the names that Docker's programs give their fields.
//!
//! Fields that are missing, null or unknown do no harm: Docker leaves out what is empty, and versions differ in what they know. What is marked as ours
//! is used between the two ends of this crate; others neither send nor look at it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use graphdriver_core::{Change, ChangeKind, IdMap};
use serde::{Deserialize, Deserializer, Serialize};

/// Null is as good as nothing: what Go writes for an empty list.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Answer to `/Plugin.Activate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Activation {
    /// The protocols that the plugin speaks.
    #[serde(deserialize_with = "or_default")]
    pub implements: Vec<String>,
}

/// `/GraphDriver.Init`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InitRequest {
    /// The directory for everything that the driver keeps.
    #[serde(rename = "Home", deserialize_with = "or_default")]
    pub home: PathBuf,
    /// Storage options, as `key=value`.
    #[serde(rename = "Opts", deserialize_with = "or_default")]
    pub options: Vec<String>,
    /// Where user ids of containers are on the host.
    #[serde(rename = "UIDMaps", deserialize_with = "or_default")]
    pub uid_maps: Vec<IdMapMessage>,
    /// Where group ids of containers are on the host.
    #[serde(rename = "GIDMaps", deserialize_with = "or_default")]
    pub gid_maps: Vec<IdMapMessage>,
}

/// One range of ids. Docker sends `container_id`; its documentation says `ContainerID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapMessage {
    /// First id in the container.
    #[serde(alias = "ContainerID")]
    pub container_id: u32,
    /// First id on the host.
    #[serde(alias = "HostID")]
    pub host_id: u32,
    /// How many ids.
    #[serde(alias = "Size")]
    pub size: u32,
}

impl From<IdMap> for IdMapMessage {
    fn from(map: IdMap) -> Self {
        Self { container_id: map.container_id, host_id: map.host_id, size: map.size }
    }
}

impl From<IdMapMessage> for IdMap {
    fn from(map: IdMapMessage) -> Self {
        Self { container_id: map.container_id, host_id: map.host_id, size: map.size }
    }
}

/// `/GraphDriver.Create` and `/GraphDriver.CreateReadWrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateRequest {
    /// The new layer.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// The layer below; empty for none.
    #[serde(rename = "Parent", deserialize_with = "or_default")]
    pub parent: String,
    /// SELinux label for its files; empty for none.
    #[serde(rename = "MountLabel", deserialize_with = "or_default")]
    pub mount_label: String,
    /// Storage options of the layer: `size`, `inodes`.
    #[serde(rename = "StorageOpt", deserialize_with = "or_default")]
    pub storage_options: BTreeMap<String, String>,
}

/// `/GraphDriver.Get`, and every call that is about one layer only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GetRequest {
    /// The layer.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// SELinux label of all files of the mount; empty for none.
    #[serde(
        rename = "MountLabel",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub mount_label: String,
}

/// `/GraphDriver.Remove`, `/GraphDriver.Put` and, without a layer, `/GraphDriver.Cleanup`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoveRequest {
    /// The layer.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// Ours: what Docker expects to be passed over is an error, as a missing layer or one in use that is to be removed; and mounts stay that are in use.
    #[serde(rename = "Strict", deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

/// `/GraphDriver.Diff`, `/GraphDriver.Changes` and `/GraphDriver.DiffSize`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairRequest {
    /// The layer.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// What it is compared with; empty for nothing, so that all of it is new.
    #[serde(rename = "Parent", deserialize_with = "or_default")]
    pub parent: String,
}

/// What went wrong, in a response that is 500, and in one that is 200 too, unless empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ErrorReply {
    /// For people.
    #[serde(deserialize_with = "or_default")]
    pub err: String,
    /// Ours: the name of the [`ErrorKind`](graphdriver_core::ErrorKind).
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// Answer to `/GraphDriver.Capabilities`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CapabilitiesReply {
    /// All of them.
    #[serde(deserialize_with = "or_default")]
    pub capabilities: PluginCapabilities,
}

/// What a plugin's driver can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginCapabilities {
    /// A diff gives back the archive that a layer was filled from, byte for byte, so that whoever asks for it need not keep what that takes.
    pub reproduces_exact_diffs: bool,
}

/// Answer to `/GraphDriver.Get`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetReply {
    /// Where the layer is mounted.
    #[serde(deserialize_with = "or_default")]
    pub dir: PathBuf,
}

/// Answer to `/GraphDriver.Exists`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExistsReply {
    /// Whether there is such a layer.
    pub exists: bool,
}

/// Answer to `/GraphDriver.Status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StatusReply {
    /// Pairs for people, in order.
    #[serde(deserialize_with = "or_default")]
    pub status: Vec<(String, String)>,
}

/// Answer to `/GraphDriver.GetMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MetadataReply {
    /// Facts by their names.
    #[serde(deserialize_with = "or_default")]
    pub metadata: BTreeMap<String, String>,
}

/// Answer to `/GraphDriver.Changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChangesReply {
    /// Sorted by path.
    #[serde(deserialize_with = "or_default")]
    pub changes: Vec<ChangeMessage>,
}

/// One changed path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChangeMessage {
    /// The path, with replacement characters where it is no UTF-8.
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
    /// Ours: the bytes of a path that is no UTF-8, in hexadecimal.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub path_hex: String,
}

impl From<&Change> for ChangeMessage {
    fn from(change: &Change) -> Self {
        let kind = match change.kind {
            ChangeKind::Modify => 0,
            ChangeKind::Add => 1,
            ChangeKind::Delete => 2,
        };
        let path_hex = match change.path.to_str() {
            Some(_) => String::new(),
            None => hex::encode(change.path.as_os_str().as_bytes()),
        };
        Self { path: change.path.to_string_lossy().into_owned(), kind, path_hex }
    }
}

impl ChangeMessage {
    /// The change, if it is one.
    pub fn to_change(&self) -> Option<Change> {
        let kind = match self.kind {
            0 => ChangeKind::Modify,
            1 => ChangeKind::Add,
            2 => ChangeKind::Delete,
            _ => return None,
        };
        let path = match hex::decode(&self.path_hex).ok().filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => PathBuf::from(std::ffi::OsString::from_vec(bytes)),
            None => Path::new(OsStr::new(&self.path)).to_owned(),
        };
        path.is_absolute().then(|| Change::new(path, kind))
    }
}

/// Answer to `/GraphDriver.ApplyDiff` and `/GraphDriver.DiffSize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SizeReply {
    /// Bytes; negative when they are not known.
    pub size: i64,
    /// Ours: how many entries the archive had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
}

/// Answer to `/LayerInventory.Layers`, which is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LayersReply {
    /// All layers, sorted.
    pub layers: Vec<String>,
}

/// Answer to `/LayerInventory.Parent`, which is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ParentReply {
    /// The layer below; empty when there is none, or it is not known.
    pub parent: String,
}

/// Answer to `/LayerInventory.Usage`, which is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageReply {
    /// What the layer itself occupies.
    pub bytes: u64,
    /// Its files.
    pub inodes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_id_maps_and_every_kind_of_nothing() {
        let table = [
            r#"{"Home":"/h","Opts":["a=b"],"UIDMaps":[{"container_id":0,"host_id":7,"size":9}],"GIDMaps":null}"#,
            r#"{"Home":"/h","Opts":["a=b"],"UIDMaps":[{"ContainerID":0,"HostID":7,"Size":9}]}"#,
            r#"{"Home":"/h","Opts":["a=b"],"UIDMaps":[{"container_id":0,"host_id":7,"size":9}],"GIDMaps":[],"New":{}}"#,
        ];
        for text in table {
            let init: InitRequest = serde_json::from_str(text).unwrap();
            let expected = InitRequest {
                home: "/h".into(),
                options: vec!["a=b".to_owned()],
                uid_maps: vec![IdMapMessage { container_id: 0, host_id: 7, size: 9 }],
                gid_maps: Vec::new(),
            };
            assert_eq!(init, expected, "{text}");
        }
        assert_eq!(serde_json::from_str::<InitRequest>("{}").unwrap(), InitRequest::default());
        assert!(serde_json::from_str::<IdMapMessage>(r#"{"container_id":-1,"host_id":0,"size":1}"#).is_err());
    }

    #[test]
    fn what_docker_reads() {
        let change = Change::new("/etc/passwd", ChangeKind::Delete);
        let reply = ChangesReply { changes: vec![(&change).into()] };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"Changes":[{"Path":"/etc/passwd","Kind":2}]}"#);
        let status = StatusReply { status: vec![("k".to_owned(), "v".to_owned())] };
        assert_eq!(serde_json::to_string(&status).unwrap(), r#"{"Status":[["k","v"]]}"#);
        let exact = PluginCapabilities { reproduces_exact_diffs: true };
        let text = serde_json::to_string(&CapabilitiesReply { capabilities: exact }).unwrap();
        assert_eq!(text, r#"{"Capabilities":{"ReproducesExactDiffs":true}}"#);
        assert_eq!(serde_json::to_string(&ExistsReply { exists: true }).unwrap(), r#"{"Exists":true}"#);
        assert_eq!(serde_json::to_string(&SizeReply { size: 7, entries: None }).unwrap(), r#"{"Size":7}"#);
    }

    #[test]
    fn names_that_are_no_text_survive() {
        let odd = std::ffi::OsString::from_vec(b"/a\xff".to_vec());
        for path in [PathBuf::from(odd), PathBuf::from("/ä\n")] {
            let change = Change::new(path, ChangeKind::Add);
            let text = serde_json::to_string(&ChangeMessage::from(&change)).unwrap();
            let again: ChangeMessage = serde_json::from_str(&text).unwrap();
            assert_eq!(again.to_change(), Some(change), "{text}");
        }
        for (path, kind) in [("", 0), ("a", 0), ("/a", 3)] {
            let message = ChangeMessage { path: path.to_owned(), kind, path_hex: String::new() };
            assert_eq!(message.to_change(), None);
        }
    }
}
