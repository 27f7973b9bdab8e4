//! Contracts put behind layers, as a router of the engine.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use micro_rpc::{Code, Handler, Name, Request, Response, Router, Status};
use tower::service_fn;

use crate::Contract;
use crate::layer::{BoxError, Ended, Layers, Next};

/// A router of all methods of these contracts, behind the layers.
pub(crate) fn router(contracts: Vec<Contract>, layers: &Layers) -> Router {
    let handlers: Vec<_> = contracts.into_iter().flat_map(Contract::handlers).collect();
    let inner = Inner::new(&handlers);
    let layered = layers.around(service_fn(move |request| inner.call(request)));
    handlers.into_iter().fold(Router::new(), |router, (contract, method, handler)| {
        let handler = match &layered {
            None => Mounted(handler),
            Some(next) => Mounted(Arc::new(Layered(next.clone()))),
        };
        match method {
            Some(method) => router.route(contract, method, handler),
            None => router.fallback(contract, handler),
        }
    })
}

/// A handler as the engine takes it: a closure around it would put its future in one more box.
struct Mounted(Arc<dyn Handler>);

impl Handler for Mounted {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
        self.0.call(request)
    }
}

/// What lies behind the layers, of which there is one stack for all methods.
#[derive(Clone)]
struct Inner(Arc<HashMap<Name, Handlers>>);

/// Those of one contract.
#[derive(Default)]
struct Handlers {
    by_method: HashMap<Name, Arc<dyn Handler>>,
    fallback: Option<Arc<dyn Handler>>,
}

impl Inner {
    fn new(all: &[(Name, Option<Name>, Arc<dyn Handler>)]) -> Self {
        let mut contracts = HashMap::<Name, Handlers>::new();
        for (contract, method, handler) in all {
            let handlers = contracts.entry(contract.clone()).or_default();
            match method {
                Some(method) => drop(handlers.by_method.insert(method.clone(), handler.clone())),
                None => handlers.fallback = Some(handler.clone()),
            }
        }
        Self(Arc::new(contracts))
    }

    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, BoxError>> {
        let found = self.find(&request).cloned();
        Box::pin(async move {
            let handler = found.ok_or(RENAMED)?;
            Ok(handler.call(request).await?)
        })
    }

    fn find(&self, request: &Request) -> Option<&Arc<dyn Handler>> {
        let handlers = self.0.get(request.contract.as_str())?;
        handlers.by_method.get(request.method.as_str()).or(handlers.fallback.as_ref())
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
    match Ended::from(error) {
        Ended::Status(status) => status,
        Ended::Error(error) => Status::new(error.code(), error.told()),
        Ended::Engine(error) => Status::new(error.code(), error.message()),
        Ended::Other(error) => {
            tracing::error!(error = &*error as &dyn std::error::Error, "a layer failed");
            Status::new(Code::Internal, "the service failed")
        }
    }
}
