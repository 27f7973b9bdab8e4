//! A contract and an error in a module without prelude, under the strictest lints.
#![no_implicit_prelude]
#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, clippy::pedantic)]

/// Documented.
#[::micro::service(mock)]
pub trait Strict {
    /// Documented.
    async fn documented(&self, name: ::std::string::String) -> ::std::string::String;
    /// Documented.
    #[rpc(idempotent, timeout = "1s")]
    async fn fallible(
        &self,
        cx: &::micro::Context,
        fail: bool,
    ) -> ::std::result::Result<u8, StrictError>;
    /// Documented, and of no more use.
    #[deprecated]
    async fn old(&self);
    #[allow(missing_docs)]
    async fn undocumented(&self) -> u8;
}

/// Documented.
#[derive(Debug, ::micro::RpcError, ::serde::Serialize, ::serde::Deserialize)]
#[rpc(code = aborted)]
pub struct StrictError;

impl ::std::fmt::Display for StrictError {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        f.write_str("strict")
    }
}

impl ::std::error::Error for StrictError {}

/// Documented.
#[derive(Debug)]
pub struct Severe;

impl Strict for Severe {
    async fn documented(&self, name: ::std::string::String) -> ::std::string::String {
        name
    }
    async fn fallible(
        &self,
        _: &::micro::Context,
        fail: bool,
    ) -> ::std::result::Result<u8, StrictError> {
        if fail { ::std::result::Result::Err(StrictError) } else { ::std::result::Result::Ok(1) }
    }
    async fn old(&self) {}
    async fn undocumented(&self) -> u8 {
        1
    }
}
