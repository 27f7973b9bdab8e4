//! The macros of `micro`: a trait becomes a contract, an error type learns its code.
//!
//! Use them through the facade, as `#[micro::service]` and `#[derive(micro::RpcError)]`. What they
//! generate is short and calls functions of a hidden module of `micro`; the logic is there.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod duration;
mod errors;
mod names;
mod options;
mod rpc_error;
mod service;

use proc_macro::TokenStream;

#[doc = include_str!("../docs/service.md")]
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(options.into(), item.into()).into()
}

#[doc = include_str!("../docs/rpc_error.md")]
#[proc_macro_derive(RpcError, attributes(rpc))]
pub fn rpc_error(item: TokenStream) -> TokenStream {
    rpc_error::expand(item.into()).into()
}
