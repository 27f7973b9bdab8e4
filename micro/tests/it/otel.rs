//! Spans as a collector gets them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::*;

/// Hands on what it is sent.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let _ = self.0.send(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a free port of the loopback, which ends with the set.
async fn collector(
    tasks: &mut JoinSet<()>,
) -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    let serve = Server::builder().add_service(service);
    tasks.spawn(async move {
        serve.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
    (url, receiver)
}

/// Calls a service that calls another one; returns the spans that were exported.
async fn exported(call: impl AsyncFnOnce(&Town)) -> Vec<Span> {
    let mut tasks = JoinSet::new();
    let (url, mut exports) = collector(&mut tasks).await;
    let settings = Settings::none().flag("spans_to", url).unwrap().flag("log", "off").unwrap();
    let settings = settings.flag("name", "storefront").unwrap();
    let (subscriber, telemetry) = micro::telemetry::subscriber(&settings).unwrap();
    let guard = tracing::subscriber::set_default(subscriber);
    let town = Town::default();
    let (_behind, _) = town.open("a").await;
    let asks = Corner { client: Some(town.client().await), ..Corner::default() };
    let front = town.service("b").name("front").serve(ShopServer::new(asks));
    let _front = registered(front).await;
    call(&town).await;
    drop(guard);
    telemetry.shutdown().await;
    let mut spans = Vec::new();
    while let Ok(export) = exports.try_recv() {
        for resource in export.resource_spans {
            assert!(format!("{:?}", resource.resource).contains("storefront"));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

/// A call through two services is one trace without a gap: the client's call, its attempt, the first
/// service, the call that makes, its attempt, and the second service, each beneath the one before.
#[tokio::test]
async fn a_call_through_two_services_is_one_trace() {
    let spans = exported(async |town| {
        let shop = ShopClient::named(&town.client().await, "front");
        shop.ask("shop").await.unwrap().unwrap();
    });
    let spans = spans.await;
    let traces: Vec<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert!(spans.len() == 6 && traces.windows(2).all(|pair| pair[0] == pair[1]), "{spans:?}");
    let by_parent: BTreeMap<_, _> = spans.iter().map(|span| (&span.parent_span_id, span)).collect();
    let mut chain = Vec::new();
    let mut parent = &Vec::new();
    while let Some(span) = by_parent.get(parent) {
        chain.push((&*span.name, span.kind));
        parent = &span.span_id;
    }
    let (server, client) = (2, 3);
    let (ask, context) = ("shop/ask", "shop/context");
    let hop = |method| [(method, client), (method, client), (method, server)];
    assert_eq!(chain, [hop(ask), hop(context)].concat());
}

/// Each span says how its call ended, as OpenTelemetry's conventions name it; what a caller did wrong
/// is an error of his alone.
#[tokio::test]
async fn spans_say_how_calls_ended() {
    let spans = exported(async |town| {
        let shop = ShopClient::named(&town.client().await, "shop");
        shop.price("gold").await.unwrap_err();
    });
    let spans = spans.await;
    assert_eq!(spans.len(), 3, "{spans:?}");
    for span in spans {
        let attributes = format!("{:?}", span.attributes);
        let of = |name: &str| {
            let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
            Some(format!("{:?}", attribute.value).contains("\"not_found\""))
        };
        assert_eq!(of("rpc.response.status_code"), Some(true), "{attributes}");
        let is_client = span.kind == 3;
        assert_eq!(of("error.type"), is_client.then_some(true), "{attributes}");
    }
}

/// The trace of a caller, over HTTP or by name, goes on; one that is not recorded is not, and travels all the same.
#[tokio::test]
async fn callers_say_whether_it_is_recorded() {
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let over_http = async |flags: &str| {
        let parent = format!("traceparent: 00-{trace}-{parent}-{flags}");
        exported(async |town| {
            let answer =
                town.send("b", "POST /shop/ask", &[&parent], r#"{"service":"shop"}"#).await;
            assert_eq!(answer.0, 200);
        })
        .await
    };
    let given = exported(async |town| {
        let traced = format!("00-{trace}-{parent}-01").parse().unwrap();
        let shop = ShopClient::named(&town.client().await, "front");
        shop.ask("shop").trace(traced).await.unwrap().unwrap();
    });
    for (spans, count) in [(over_http("01").await, 4), (given.await, 6)] {
        assert_eq!(spans.len(), count, "{spans:?}");
        assert!(spans.iter().all(|span| hex(&span.trace_id) == trace), "{spans:?}");
        assert_eq!(spans.iter().filter(|span| hex(&span.parent_span_id) == parent).count(), 1);
    }
    assert_eq!(over_http("00").await, []);
}

/// Where spans go is checked before anything starts.
#[tokio::test]
async fn what_is_no_collector_is_refused() {
    for wrong in ["localhost:4317", "", "ftp://localhost"] {
        let settings = Settings::none().flag("spans_to", wrong).unwrap();
        let error = micro::telemetry::subscriber(&settings).err().unwrap().to_string();
        assert!(error.contains("from flag --spans-to"), "{error}");
    }
}

/// A collector's password is in no error, and in nothing that is printed.
#[tokio::test]
async fn passwords_of_a_collector_are_not_shown() {
    for (to, is_one) in [
        ("http://ann:secret@localhost:4317", true),
        ("http://localhost:4317/?key=secret", true),
        ("grpc://ann:secret@localhost:4317", false),
        ("http://ann:secret@local host", false),
    ] {
        let settings = Settings::none().flag("spans_to", to).unwrap();
        let shown = match micro::telemetry::subscriber(&settings) {
            Ok((_, telemetry)) => Ok(format!("{telemetry:?}")),
            Err(error) => Err(format!("{error} {error:?}")),
        };
        assert_eq!(shown.is_ok(), is_one, "{shown:?}");
        let text = shown.unwrap_or_else(|error| error);
        assert!(text.contains("***") && !text.contains("secret"), "{text}");
    }
}
