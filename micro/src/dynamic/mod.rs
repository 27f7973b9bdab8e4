//! Services called by name, for programs that do not know their contracts: the command line, a
//! gateway.
//!
//! Arguments and answers are JSON; what there is to call, and with what, a [`Description`] says.
//!
//! ```no_run
//! use serde_json::{Value, json};
//!
//! # async fn example() -> micro::Result<()> {
//! let client = micro::Client::connect().await?;
//! let call = client.call_by_name("greeter", "greeter", "hello", &json!({ "name": "Ann" }));
//! match call.reply().await {
//!     Ok(reply) => {
//!         let greeting: Value = reply.value;
//!         println!("{greeting}, in {} attempts", reply.attempts);
//!     }
//!     Err(error) => {
//!         let error = micro::Error::from(error);
//!         println!("{} {:?}", error.message(), error.details::<Value>());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod ask;
mod description;
mod fields;

use std::cmp::Reverse;

use futures::{StreamExt, stream};
use micro_registry::{Node, Service};
use micro_rpc::{Code, Codec, MemoryNetwork, Name, Request};
use serde::Serialize;

use self::ask::ask_in;
pub use self::ask::{Page, ask, get};
pub use self::description::{ContractDescription, Description};
pub use self::fields::arguments;
use crate::call::Call;
pub use crate::call::Encoded;
use crate::client::Target;
use crate::{Client, Error, Phase, slips};

impl Client {
    /// A call of a method whose contract the program does not know, with JSON in both directions:
    /// `arguments` encodes as a map from the names of the arguments to their values, and the answer
    /// is whatever decodes from JSON, a `serde_json::Value` for example. The method's own error is
    /// the [details](Error::details) of the call's.
    ///
    /// It is not repeated after it may have been executed unless it is said to be
    /// [`idempotent`](Call::idempotent), as [`Endpoint`](micro_registry::Endpoint)s say.
    pub fn call_by_name<A: Serialize + ?Sized, T>(
        &self,
        service: &str,
        contract: &str,
        method: &str,
        arguments: &A,
    ) -> Call<T, Error> {
        let target = Target::new(self, service);
        Call::encoded(&target, contract.to_owned(), method.to_owned(), Codec::Json, arguments)
    }

    /// The same of arguments that are encoded already, and with an answer that
    /// [stays encoded](Call::encoded_reply): what passes calls on looks into neither.
    pub fn call_encoded(
        &self,
        service: &str,
        contract: impl Into<Name>,
        method: impl Into<Name>,
        arguments: Encoded,
    ) -> Call<Encoded, Error> {
        let Encoded { codec, body } = arguments;
        Call::of(&Target::new(self, service), Request::new(contract, method, codec, body))
    }

    /// What a service says about itself, for each version that is registered: what a node of that
    /// version answers or, when three do not, what the registry has, which is without schemas. A
    /// version of which neither is known is left out.
    ///
    /// # Errors
    ///
    /// `not_found` when nobody is registered by that name, `unavailable` when the registry cannot be
    /// asked, or no version is known.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn describe(&self, service: &str) -> Result<Vec<Description>, Error> {
        let versions = self.registry().get(service).await?;
        let described = async |version| {
            let asked = ask_any(self.network(), version).await;
            let asked = asked.map(|(_, told)| told);
            asked.or_else(|error| Description::of(version).ok_or(error))
        };
        let each = stream::iter(&versions).map(described).buffered(AT_ONCE);
        let (known, unknown): (Vec<_>, Vec<_>) =
            each.collect::<Vec<_>>().await.into_iter().partition(Result::is_ok);
        match unknown.into_iter().next() {
            Some(Err(error)) if known.is_empty() => Err(error),
            _ => Ok(known.into_iter().flatten().collect()),
        }
    }

    /// What one version of a service says about itself, and which of its nodes says so: of three at
    /// most those first that want traffic, and the newest of them first.
    ///
    /// # Errors
    ///
    /// `unavailable` or `unimplemented` when none of them tells of this version, `not_found` when it
    /// has no nodes.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn describe_version<'a>(
        &self,
        version: &'a Service,
    ) -> Result<(&'a Node, Description), Error> {
        ask_any(self.network(), version).await
    }
}

/// So many versions are asked at the same time.
const AT_ONCE: usize = 8;

/// Which of the `known` words was probably meant by one that is not among them.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<_> = known.into_iter().map(str::to_owned).collect();
    slips::nearest(written, "", &known)
}

/// Asks one node after the other, those first that want traffic and the newest of them first, and takes
/// no other service's or version's word. A node that is too late, or tells of something else, is
/// passed over.
async fn ask_any<'a>(
    network: Option<&MemoryNetwork>,
    version: &'a Service,
) -> Result<(&'a Node, Description), Error> {
    const AT_MOST: usize = 3;
    let mut nodes: Vec<_> = version.nodes.iter().collect();
    nodes.sort_by_key(|node| (!node.is_eligible(), Reverse(node.epoch)));
    let mut last = None;
    for node in nodes.into_iter().take(AT_MOST) {
        match ask_in(network, &node.address).await {
            Ok(told) if told.is_of(version) => return Ok((node, told)),
            Ok(told) => last = Some(another(node, &told)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| micro_registry::Error::not_found(&version.name).into()))
}

/// Addresses are used again, by whoever comes next.
fn another(node: &Node, told: &Description) -> Error {
    let (address, Description { service, version, .. }) = (&node.address, told);
    let message = format!("what answers at {address} is `{service}` {version}");
    Error::at(Code::Unavailable, Phase::Decode, message)
}
