//! One etcd server: its address, and a connection that is replaced when it is in doubt.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use http::uri::PathAndQuery;
use micro_registry::{Error, ErrorKind};
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{IntoStreamingRequest, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::failure::{self, Manner};
use crate::{EtcdConfig, EtcdTls};

/// A member of the cluster.
///
/// A connection over which an answer did not come may be one that leads nowhere any more, and nobody
/// says so; the next request gets a new one. What else runs over the old one is not disturbed.
pub(crate) struct Server {
    address: String,
    endpoint: Endpoint,
    manner: Manner,
    connection: Mutex<Connection>,
    has_answered: AtomicBool,
}

/// Why a server did not answer.
#[derive(Clone, Debug)]
pub(crate) struct Complaint {
    pub(crate) words: String,
    /// Whether it will not answer a repetition either.
    pub(crate) is_hopeless: bool,
}

/// A connection; there is one once it was asked for.
#[derive(Default)]
struct Connection {
    /// How many there were before.
    generation: u64,
    channel: Option<Channel>,
}

/// A connection to a server, for a request.
#[derive(Clone)]
pub(crate) struct Line {
    generation: u64,
    channel: Channel,
}

impl Server {
    /// The servers of the configuration, without connections.
    ///
    /// # Errors
    ///
    /// `Invalid` for an address or a certificate that cannot be one.
    pub(crate) fn all(config: &EtcdConfig) -> Result<Vec<Self>, Error> {
        let one = |address: String| {
            let endpoint = endpoint(&address, config)?;
            let manner = manner(config);
            let has_answered = AtomicBool::new(false);
            Ok(Self { address, endpoint, manner, connection: Mutex::default(), has_answered })
        };
        config.addresses()?.into_iter().map(one).collect()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The connection; it is made by the first request on it.
    pub(crate) fn line(&self) -> Line {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = connection.channel.get_or_insert_with(|| self.endpoint.connect_lazy());
        let channel = channel.clone();
        Line { generation: connection.generation, channel }
    }

    /// It is the right server, spoken to in the right way.
    pub(crate) fn has_answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Why a request got no answer.
    pub(crate) fn complaint(&self, status: &Status) -> Complaint {
        let has_answered = self.has_answered.load(Ordering::Relaxed);
        Complaint {
            words: failure::explain(status, self.manner, has_answered),
            is_hopeless: failure::is_hopeless(status, has_answered),
        }
    }

    /// Has the next request make a new connection.
    pub(crate) fn doubt(&self, line: &Line) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.generation == line.generation {
            *connection = Connection { generation: line.generation + 1, channel: None };
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Line {
    /// One message there, one back: how all calls but a watch go. That of a keep-alive is a stream of
    /// such pairs; one of them is the same on the wire.
    pub(crate) async fn ask<Q, A>(
        &self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
        answer.map(Response::into_inner)
    }

    /// Messages both ways.
    pub(crate) async fn converse<Q, A>(
        &self,
        path: &'static str,
        requests: impl IntoStreamingRequest<Message = Q>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(path);
        let requests = requests.into_streaming_request();
        let answer = grpc.streaming(requests, path, ProstCodec::<Q, A>::default()).await;
        answer.map(Response::into_inner)
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        Ok(grpc)
    }
}

/// The longest message that is read. etcd splits what a watch tells at 2 MiB unless it is configured
/// to take larger requests; lists are asked for in pages.
pub(crate) const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// No HTTP/2 pings: etcd takes more than one in 5 s on a connection without other news for an attack,
/// and cuts it. Requests have their own timeout, and a watch asks whether its server lives.
fn endpoint(address: &str, config: &EtcdConfig) -> Result<Endpoint, Error> {
    let invalid = |what: &str, source: tonic::transport::Error| {
        let message = format!("{what} of etcd is invalid");
        Error::new(ErrorKind::Invalid, message).with_source(source)
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|source| invalid(&format!("endpoint {address:?}"), source))?
        .connect_timeout(config.request_timeout);
    let Some(tls) = &config.tls else { return Ok(endpoint) };
    endpoint.tls_config(tls_config(tls)).map_err(|source| invalid("certificate or key", source))
}

fn manner(config: &EtcdConfig) -> Manner {
    match &config.tls {
        None => Manner::Plain,
        Some(EtcdTls { identity: None, .. }) => Manner::Tls,
        Some(_) => Manner::TlsWithOwnCertificate,
    }
}

fn tls_config(tls: &EtcdTls) -> ClientTlsConfig {
    let mut config = match &tls.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some(own) = &tls.identity {
        config = config.identity(Identity::from_pem(&own.certificate, &own.key));
    }
    match &tls.server_name {
        Some(name) => config.domain_name(name),
        None => config,
    }
}
