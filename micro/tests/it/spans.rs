//! The spans around calls, and the trace they belong to.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::layer::{Context as Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::*;

/// Spans that have ended: name and fields.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<Vec<(&'static str, Fields)>>>);

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S> tracing_subscriber::Layer<S> for Ended
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Layered<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Layered<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Layered<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions().get::<Fields>().unwrap().clone();
        self.0.lock().unwrap().push((span.name(), fields));
    }
}

impl Ended {
    /// Listens on this thread.
    fn listen(&self) -> DefaultGuard {
        /// While there is but one dispatcher, threads without any would turn off spans for all.
        static SECOND: LazyLock<Dispatch> =
            LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&SECOND);
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::set_default(subscriber)
    }

    /// Those of this name, in the order in which they ended: the fields, as far as they are there.
    fn fields<const N: usize>(&self, name: &str, fields: [&str; N]) -> Vec<[String; N]> {
        let ended = self.0.lock().unwrap();
        let named = ended.iter().filter(|(other, _)| *other == name);
        named.map(|(_, all)| fields.map(|f| all.0.get(f).cloned().unwrap_or_default())).collect()
    }
}

/// A call has a span on both sides, and each attempt one: they say which method, where and how it
/// ended.
#[tokio::test(start_paused = true)]
async fn calls_and_attempts_have_spans() {
    let (town, ended) = (Town::default(), Ended::default());
    let _guard = ended.listen();
    let (_service, _) = town.open("a").await;
    let client = town.client().await;
    let shop = ShopClient::new(&client);
    shop.price("tea").await.unwrap();
    shop.price("gold").await.unwrap_err();
    let calls = ended.fields("call", ["service", "contract", "method", "node", "attempts", "code"]);
    let call = |code: &str| ["shop", "shop", "price", "a", "1", code].map(str::to_owned);
    assert_eq!(calls, [call("ok"), call("not_found")]);
    let attempts = ended.fields("attempt", ["node", "attempt", "code"]);
    let attempt = |code: &str| ["memory:a", "0", code].map(str::to_owned);
    assert_eq!(attempts, [attempt("ok"), attempt("not_found")]);
    let served = ended.fields("serve", ["contract", "method", "code"]);
    let serve = |code: &str| ["shop", "price", code].map(str::to_owned);
    assert_eq!(served, [serve("ok"), serve("not_found")]);
}

/// A call that is repeated has one span, and each of its attempts another.
#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_span() {
    let ended = Ended::default();
    let _guard = ended.listen();
    let net = micro::test::Net::new();
    let first = net.serve("shop", ShopServer::new(Corner::default())).await.unwrap();
    let _second = net.serve("shop", ShopServer::new(Corner::default())).await.unwrap();
    first.kill();
    let client = net.client();
    for _ in 0..20 {
        ShopClient::new(&client).price("tea").await.unwrap();
    }
    let calls = ended.fields("call", ["attempts", "code"]);
    let repeated = calls.iter().filter(|[attempts, _]| attempts == "2").count();
    assert!(repeated >= 1 && calls.iter().all(|[_, code]| code == "ok"), "{calls:?}");
    let attempts = ended.fields("attempt", ["attempt", "code"]);
    let count = |attempt: &str, code: &str| {
        attempts.iter().filter(|ended| **ended == [attempt.to_owned(), code.to_owned()]).count()
    };
    assert_eq!(count("0", "unavailable"), repeated, "{attempts:?}");
    assert_eq!(count("1", "ok"), repeated, "{attempts:?}");
}

/// A call made while another is served belongs to the trace of that one, which may be that of an
/// HTTP caller; without one, the calls made for a request belong together all the same.
#[tokio::test(start_paused = true)]
async fn a_trace_goes_through_services() {
    let (town, ended) = (Town::default(), Ended::default());
    let _guard = ended.listen();
    let (_behind, _) = town.open("a").await;
    let asks = Corner { client: Some(town.client().await), ..Corner::default() };
    let front = town.service("b").name("front").serve(ShopServer::new(asks));
    let _front = registered(front).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for parent in [
        &format!("00-{trace}-00f067aa0ba902b7-00"),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "x",
        "",
    ] {
        let parent = format!("traceparent: {parent}");
        let answer = town.send("b", "POST /shop/ask", &[&parent], r#"{"service":"shop"}"#).await;
        assert_eq!(answer.0, 200, "{parent}: {}", answer.1);
    }
    let served = ended.fields("serve", ["trace"]);
    let traces: Vec<_> = served.chunks(2).collect();
    assert!(traces.len() == 4 && traces.iter().all(|hops| hops[0] == hops[1]), "{served:?}");
    assert_eq!(traces[0][0], [trace]);
    let different: std::collections::BTreeSet<_> = served.iter().collect();
    assert!(different.len() == 4 && served.iter().all(|[trace]| trace.len() == 32), "{served:?}");
}
