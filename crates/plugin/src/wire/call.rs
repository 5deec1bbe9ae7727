//! What is asked for: the one place where a request becomes something to do.

use std::fmt;
use std::io::{self, Read};

use graphdriver_core::LayerId;
use serde::de::DeserializeOwned;

use super::head::RequestHead;
use super::message::{CreateRequest, GetRequest, InitRequest, PairRequest, RemoveRequest};
use crate::limited::read_limited;

/// A request, checked as far as it can be without asking a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the protocol's calls")]
pub enum Call {
    Activate,
    Init(InitRequest),
    Capabilities,
    Create { id: LayerId, parent: Option<LayerId>, request: CreateRequest },
    CreateReadWrite { id: LayerId, parent: Option<LayerId>, request: CreateRequest },
    Remove { id: LayerId, strict: bool },
    Get { id: LayerId, label: Option<String> },
    Put { id: LayerId, strict: bool },
    Exists(LayerId),
    Status,
    GetMetadata(LayerId),
    Cleanup { strict: bool },
    Diff { id: LayerId, parent: Option<LayerId> },
    Changes { id: LayerId, parent: Option<LayerId> },
    ApplyDiff { id: LayerId, parent: Option<LayerId>, strict: bool },
    DiffSize { id: LayerId, parent: Option<LayerId> },
    Layers,
    Parent(LayerId),
    Usage(LayerId),
}

/// A request that is not carried out, and the HTTP status that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400 and up.
    pub status: u16,
    /// What is wrong with it.
    pub text: String,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// A refusal of what makes no sense.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }

    /// A refusal of what could not be read to its end.
    pub(crate) fn of_reading(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::new(408, "the request took too long")
            }
            _ => Self::bad_request(format!("the request cannot be read: {error}")),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP status {})", self.text, self.status)
    }
}

impl Call {
    /// The call that the request with this head and body is. Of calls that have a body of bytes, that is not read.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); 413 for a body of more than `limit` bytes, 408 for one that does not come in time, and 400 for one that ends early.
    pub fn read(head: &RequestHead, body: &mut impl Read, limit: u64) -> Result<Self, Refusal> {
        if let Some(call) = Self::of_stream(&head.target)? {
            return Ok(call);
        }
        let bytes = read_limited(body, limit).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => {
                Refusal::new(413, format!("the call is longer than {limit} bytes"))
            }
            _ => Refusal::of_reading(&error),
        })?;
        Self::decode(&head.target, &bytes)
    }

    /// The call that a request with this target is, without its body: of calls that have a body of bytes, everything; of others, `None`.
    ///
    /// # Errors
    /// 400 for an id that is none, and for a query without one.
    pub fn of_stream(target: &str) -> Result<Option<Self>, Refusal> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path != "/GraphDriver.ApplyDiff" {
            return Ok(None);
        }
        let (mut id, mut parent, mut strict) = (None, String::new(), false);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "id" => id = Some(value.into_owned()),
                "parent" => parent = value.into_owned(),
                "strict" => strict = value == "true",
                _ => {}
            }
        }
        let id = id.ok_or_else(|| Refusal::bad_request("the query has no id"))?;
        Ok(Some(Self::ApplyDiff { id: layer(&id)?, parent: parent_of(&parent)?, strict }))
    }

    /// The call that a request with this target and this body is. The body may be empty where nothing in it is needed.
    ///
    /// # Errors
    /// 404 for a target that is none of the protocol's; 400 for a body that is no JSON, or not what the call takes, and for ids that are none.
    pub fn decode(target: &str, body: &[u8]) -> Result<Self, Refusal> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        Ok(match path {
            "/Plugin.Activate" => Self::Activate,
            "/GraphDriver.Init" => Self::Init(json(body)?),
            "/GraphDriver.Capabilities" => Self::Capabilities,
            "/GraphDriver.Create" => {
                let request: CreateRequest = json(body)?;
                Self::Create { id: layer(&request.id)?, parent: parent_of(&request.parent)?, request }
            }
            "/GraphDriver.CreateReadWrite" => {
                let request: CreateRequest = json(body)?;
                Self::CreateReadWrite {
                    id: layer(&request.id)?,
                    parent: parent_of(&request.parent)?,
                    request,
                }
            }
            "/GraphDriver.Remove" => {
                let request: RemoveRequest = json(body)?;
                Self::Remove { id: layer(&request.id)?, strict: request.strict }
            }
            "/GraphDriver.Get" => {
                let request: GetRequest = json(body)?;
                let label = Some(request.mount_label).filter(|label| !label.is_empty());
                Self::Get { id: layer(&request.id)?, label }
            }
            "/GraphDriver.Put" => {
                let request: RemoveRequest = json(body)?;
                Self::Put { id: layer(&request.id)?, strict: request.strict }
            }
            "/GraphDriver.Exists" => Self::Exists(one_layer(body)?),
            "/GraphDriver.Status" => Self::Status,
            "/GraphDriver.GetMetadata" => Self::GetMetadata(one_layer(body)?),
            "/GraphDriver.Cleanup" => Self::Cleanup { strict: json::<RemoveRequest>(body)?.strict },
            "/GraphDriver.Diff" => {
                let (id, parent) = pair(body)?;
                Self::Diff { id, parent }
            }
            "/GraphDriver.Changes" => {
                let (id, parent) = pair(body)?;
                Self::Changes { id, parent }
            }
            "/GraphDriver.DiffSize" => {
                let (id, parent) = pair(body)?;
                Self::DiffSize { id, parent }
            }
            "/LayerInventory.Layers" => Self::Layers,
            "/LayerInventory.Parent" => Self::Parent(one_layer(body)?),
            "/LayerInventory.Usage" => Self::Usage(one_layer(body)?),
            _ => return Err(Refusal::new(404, format!("there is no call {path:?}"))),
        })
    }
}

fn json<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let decoded: Result<Option<T>, _> = serde_json::from_slice(body);
    let decoded = decoded
        .map_err(|error| Refusal::bad_request(format!("the body is not what the call takes: {error}")))?;
    Ok(decoded.unwrap_or_default())
}

fn one_layer(body: &[u8]) -> Result<LayerId, Refusal> {
    layer(&json::<GetRequest>(body)?.id)
}

fn pair(body: &[u8]) -> Result<(LayerId, Option<LayerId>), Refusal> {
    let request: PairRequest = json(body)?;
    Ok((layer(&request.id)?, parent_of(&request.parent)?))
}

fn layer(id: &str) -> Result<LayerId, Refusal> {
    id.parse().map_err(|error| Refusal::bad_request(format!("{error}")))
}

/// Nothing and an empty text are the same: there is no parent.
fn parent_of(id: &str) -> Result<Option<LayerId>, Refusal> {
    if id.is_empty() { Ok(None) } else { layer(id).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> LayerId {
        text.parse().unwrap()
    }

    #[test]
    fn calls_as_docker_makes_them() {
        let table = [
            ("/Plugin.Activate", "", Call::Activate),
            ("/GraphDriver.Status", "{}\n", Call::Status),
            ("/GraphDriver.Cleanup", "null", Call::Cleanup { strict: false }),
            ("/GraphDriver.Exists", r#"{"ID":"a"}"#, Call::Exists(id("a"))),
            ("/GraphDriver.Remove", r#"{"ID":"a"}"#, Call::Remove { id: id("a"), strict: false }),
            ("/GraphDriver.Put", r#"{"ID":"a","Strict":true}"#, Call::Put { id: id("a"), strict: true }),
            ("/GraphDriver.Get", r#"{"ID":"a","MountLabel":""}"#, Call::Get { id: id("a"), label: None }),
            ("/GraphDriver.Diff", r#"{"ID":"a"}"#, Call::Diff { id: id("a"), parent: None }),
            (
                "/GraphDriver.DiffSize",
                r#"{"ID":"a","Parent":"b"}"#,
                Call::DiffSize { id: id("a"), parent: Some(id("b")) },
            ),
        ];
        for (target, body, expected) in table {
            assert_eq!(Call::decode(target, body.as_bytes()), Ok(expected), "{target}");
        }
        let body = br#"{"ID":"a","Parent":"b","MountLabel":"l","StorageOpt":{"size":"1G"}}"#;
        let Ok(Call::CreateReadWrite { id: layer, parent, request }) =
            Call::decode("/GraphDriver.CreateReadWrite", body)
        else {
            panic!("not created");
        };
        assert_eq!((layer, parent, &*request.mount_label), (id("a"), Some(id("b")), "l"));
        assert_eq!(request.storage_options["size"], "1G");
    }

    #[test]
    fn streams() {
        let table = [
            (
                "/GraphDriver.ApplyDiff?id=a&parent=b",
                Call::ApplyDiff { id: id("a"), parent: Some(id("b")), strict: false },
            ),
            (
                "/GraphDriver.ApplyDiff?id=a&parent=",
                Call::ApplyDiff { id: id("a"), parent: None, strict: false },
            ),
            (
                "/GraphDriver.ApplyDiff?strict=true&id=a%26",
                Call::ApplyDiff { id: id("a&"), parent: None, strict: true },
            ),
        ];
        for (target, expected) in table {
            assert_eq!(Call::of_stream(target), Ok(Some(expected)), "{target}");
        }
        for query in ["", "?", "?id=", "?parent=b", "?id=..", "?id=a%2Fb", "?id=a&parent=../b", "?id=%00"] {
            let refused = Call::of_stream(&format!("/GraphDriver.ApplyDiff{query}"));
            assert_eq!(refused.map_err(|refusal| refusal.status), Err(400), "{query:?}");
        }
        assert_eq!(Call::of_stream("/GraphDriver.Diff?id=a"), Ok(None));
    }

    #[test]
    fn refusals() {
        let table = [
            ("/", "", 404),
            ("/GraphDriver.Frobnicate", "{}", 404),
            ("/graphdriver.init", "{}", 404),
            ("/VolumeDriver.Get", "{}", 404),
            ("*", "", 404),
            ("/GraphDriver.Get", "", 400),
            ("/GraphDriver.Get", "{}", 400),
            ("/GraphDriver.Get", "{", 400),
            ("/GraphDriver.Get", "[]", 400),
            ("/GraphDriver.Get", "\"a\"", 400),
            ("/GraphDriver.Get", r#"{"ID":7}"#, 400),
            ("/GraphDriver.Get", r#"{"ID":""}"#, 400),
            ("/GraphDriver.Get", r#"{"ID":"a"} {"ID":"b"}"#, 400),
            ("/GraphDriver.Get", r#"{"ID":"../../etc"}"#, 400),
            ("/GraphDriver.Get", "{\"ID\":\"a\\u0000\"}", 400),
            ("/GraphDriver.Get", "\u{feff}{\"ID\":\"a\"}", 400),
            ("/GraphDriver.Create", r#"{"ID":"a","Parent":"/"}"#, 400),
            ("/GraphDriver.Create", r#"{"ID":"a","StorageOpt":{"size":7}}"#, 400),
            ("/GraphDriver.Init", r#"{"UIDMaps":[{"container_id":0,"host_id":0}]}"#, 400),
            ("/GraphDriver.Init", r#"{"UIDMaps":[{"container_id":0,"host_id":4294967296,"size":1}]}"#, 400),
        ];
        for (target, body, status) in table {
            let refused = Call::decode(target, body.as_bytes()).map_err(|refusal| refusal.status);
            assert_eq!(refused, Err(status), "{target} {body:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Call::decode("/GraphDriver.Get", deep.as_bytes()).map_err(|it| it.status), Err(400));
        assert!(Call::decode("/GraphDriver.Get", b"{\"ID\":\"\xff\"}").is_err());
    }
}
