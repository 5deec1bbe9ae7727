//! The protocol itself: HTTP/1.1 as far as it takes, the calls, and their messages in JSON.
//!
//! What parses here takes bytes and does no I/O, or reads from any [`BufRead`](std::io::BufRead); sockets are elsewhere.

mod body;
mod call;
mod error_kind;
mod head;
mod message;

pub use body::{Body, ChunkedWriter};
pub use call::{Call, Refusal};
pub use head::{Framing, HeadError, MAX_HEAD_BYTES, RequestHead, ResponseHead, read_head};
pub use message::{
    Activation, CapabilitiesReply, ChangeMessage, ChangesReply, CreateRequest, ErrorReply, ExistsReply,
    GetReply, GetRequest, IdMapMessage, InitRequest, LayersReply, MetadataReply, PairRequest, ParentReply,
    PluginCapabilities, RemoveRequest, SizeReply, StatusReply, UsageReply,
};

pub(crate) use error_kind::{kind_named, name_of};

/// What the protocol is called in the list of what a plugin implements.
pub const GRAPH_DRIVER: &str = "GraphDriver";

/// What the calls beyond Docker's are called in that list: those which tell layers, parents and usage.
pub const LAYER_INVENTORY: &str = "LayerInventory";

/// The content type of all messages in JSON.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";
