//! Contracts put behind layers, as a router of the engine.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use micro_rpc::{Code, Handler, Request, Response, Router, Status};
use tower::service_fn;

use crate::layer::{self, BoxError, Layers, Next};
use crate::{Contract, Error};

/// A router of all methods of these contracts, behind the layers.
pub(crate) fn router(contracts: Vec<Contract>, layers: &Layers) -> Router {
    let methods: Vec<_> = contracts.into_iter().flat_map(Contract::handlers).collect();
    let by_name = methods.iter().map(|(info, handler)| (info.key(), handler.clone())).collect();
    let inner = Inner(Arc::new(by_name));
    let layered = layers.around(service_fn(move |request| inner.call(request)));
    methods.into_iter().fold(Router::new(), |router, (info, handler)| {
        let (contract, name) = info.key();
        let handler = match &layered {
            None => handler,
            Some(next) => Arc::new(Layered(next.clone())),
        };
        router.route(contract, name, move |request| handler.call(request))
    })
}

type Handlers = HashMap<(&'static str, &'static str), Arc<dyn Handler>>;

/// What lies behind the layers, of which there is one stack for all methods.
#[derive(Clone)]
struct Inner(Arc<Handlers>);

impl Inner {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, BoxError>> {
        let found = self.0.get(&(&*request.contract, &*request.method)).cloned();
        Box::pin(async move {
            let handler = found.ok_or(RENAMED)?;
            Ok(handler.call(request).await?)
        })
    }
}

const RENAMED: &str = "a layer changed the request to a method that is not served here";

/// A method behind the layers.
struct Layered(Next);

impl Handler for Layered {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
        let next = self.0.clone();
        Box::pin(async move { next.run(request).await.map_err(status) })
    }
}

/// What callers see of an error that a layer let through or made.
fn status(error: BoxError) -> Status {
    if let Some(status) = layer::known_status(&error) {
        return status;
    }
    match error.downcast::<Error>() {
        Ok(error) => Status::new(error.code(), error.to_string()),
        Err(error) => {
            tracing::error!(error = &*error as &dyn std::error::Error, "a layer failed");
            Status::new(Code::Internal, "the service failed")
        }
    }
}
