//! How calls look over HTTP: what a server's own port reads and answers, for whoever stands in front
//! of services and is to be the same. `PROTOCOL.md`, §8, says it in words.

pub use crate::server::http::timeout_of as timeout;
pub use crate::server::http::{
    Impatient, Refusal, check_source, criticality, metadata, put_metadata, rest, to_json, trace,
};
