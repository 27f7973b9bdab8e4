//! mDNS.
#![cfg_attr(docsrs, feature(doc_cfg))]
mod config;
mod error;
mod feeder;
mod link;
mod network;
mod outbox;
mod registry;
mod state;
mod text;
mod tracker;

pub use config::MdnsConfig;
pub use registry::MdnsRegistry;
