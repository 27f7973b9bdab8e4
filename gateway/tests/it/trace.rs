//! One trace from a request through all services it leads to.

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[micro::service]
trait Front {
    /// Its own trace, and that of the service behind it.
    async fn enter(&self, cx: &Context) -> Result<Vec<String>, Error>;
}

#[micro::service]
trait Back {
    async fn end(&self, cx: &Context) -> String;
}

struct Door(Client);

impl Front for Door {
    async fn enter(&self, cx: &Context) -> Result<Vec<String>, Error> {
        let behind = BackClient::new(&self.0).end().await?;
        Ok(vec![seen(cx), behind])
    }
}

struct Wall;

impl Back for Wall {
    async fn end(&self, cx: &Context) -> String {
        seen(cx)
    }
}

fn seen(cx: &Context) -> String {
    cx.trace().map(ToString::to_string).unwrap_or_default()
}

/// A request's trace is that of the call the gateway makes, and of the call the called service makes,
/// each a span of its own; a request without a trace begins one.
#[tokio::test]
async fn one_trace_through_two_services() {
    let town = Town::default();
    let _back = registered(town.service("b").name("back").serve(BackServer::new(Wall))).await;
    let door = Door(town.client().await);
    let _front = registered(town.service("a").name("front").serve(FrontServer::new(door))).await;
    let gateway = town.gateway().await;
    let ask = async |asked: Asked| {
        let answer = asked.of(gateway.address()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let traces: [String; 2] = serde_json::from_str(&answer.body).unwrap();
        traces.map(|trace| ids(&trace))
    };
    let asked = Asked::post("/front/enter", "{}");

    let (trace, caller) = ids(PARENT);
    let [front, back] = ask(asked.clone().with("traceparent", PARENT)).await;
    assert_eq!((&front.0, &back.0), (&trace, &trace));
    assert!(front.1 != caller && back.1 != caller && front.1 != back.1, "{front:?} {back:?}");

    let [front, back] = ask(asked.clone()).await;
    assert_eq!(front.0, back.0);
    let [other, _] = ask(asked).await;
    assert_ne!(front.0, other.0);
}

/// Those of the trace and of the span in a `traceparent`.
fn ids(trace: &str) -> (String, String) {
    let parts: Vec<_> = trace.split('-').collect();
    let [_, trace, span, _] = *parts else { panic!("{trace:?}") };
    (trace.to_owned(), span.to_owned())
}
