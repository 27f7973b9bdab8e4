//! What each layer does, seen from the caller.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use micro::layer::{BoxError, Next, from_fn};
use micro::rpc::{Address, Request, Response};
use micro::test::{Net, Node};
use micro::{CallError, Code, Error, Result, Service};
use middleware::{
    DiaryClient, DiaryServer, Shared, Timing, authenticate, limit_rate, log_attempt, per_hour,
    send_token,
};
use testbed::Scene;

async fn diary(net: &Net, id: &str, calls: u32) -> Result<Node> {
    let limiter = per_hour(NonZeroU32::new(calls).expect("the tests allow some"));
    let service = Service::new()
        .id(id)
        .serve(DiaryServer::new(Shared))
        .layer(from_fn(authenticate))
        .layer(from_fn(move |request, next| limit_rate(limiter.clone(), request, next)));
    net.start(service).await
}

async fn client(net: &Net, token: &'static str) -> Result<DiaryClient> {
    let token = from_fn(move |request, next| send_token(token, request, next));
    let client = net.connect().layer(token).attempt_layer(from_fn(log_attempt));
    Ok(DiaryClient::new(&client.await?))
}

async fn as_ann(request: Request, next: Next) -> std::result::Result<Response, BoxError> {
    send_token("token-of-Ann", request, next).await
}

fn refused(answer: std::result::Result<String, CallError<std::convert::Infallible>>) -> Error {
    match answer {
        Err(CallError::Rpc(error)) => error,
        Ok(name) => panic!("it was let in as {name}"),
    }
}

/// The handler is told who calls; who is nobody does not get as far as the handler.
#[tokio::test(start_paused = true)]
async fn authentication() -> Result<()> {
    let net = Net::new();
    let _node = diary(&net, "a", 100).await?;
    assert_eq!(client(&net, "token-of-Ann").await?.owner().await?, "Ann");
    let error = refused(client(&net, "guess").await?.owner().await);
    assert_eq!(error.code(), Code::Unauthenticated);
    let error = refused(DiaryClient::new(&net.client()).owner().await);
    assert_eq!(error.code(), Code::Unauthenticated);
    Ok(())
}

/// Each principal has a limit of its own on each node; who is refused by one asks another.
#[tokio::test(start_paused = true)]
async fn rate_limit() -> Result<()> {
    let net = Net::new();
    let _a = diary(&net, "a", 3).await?;
    let ann = client(&net, "token-of-Ann").await?;
    for _ in 0..3 {
        ann.owner().await?;
    }
    let error = refused(ann.owner().await);
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert_eq!(client(&net, "token-of-Bob").await?.owner().await?, "Bob");
    let _b = diary(&net, "b", 3).await?;
    assert_eq!(ann.owner().await?, "Ann");
    Ok(())
}

/// A layer of one's own goes anywhere; around a call it sees the latency of the network as well.
#[tokio::test(start_paused = true)]
async fn timing() -> Result<()> {
    let net = Net::new();
    let node = diary(&net, "a", 100).await?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = seen.clone();
    let timing = Timing::new(move |method: &str, took: Duration| {
        report.lock().expect("no panic").push((method.to_owned(), took));
    });
    let client = net.connect().layer(timing).layer(from_fn(as_ann)).await?;
    let diary = DiaryClient::new(&client);
    diary.owner().await?;
    node.slow_down(Duration::from_millis(250));
    diary.owner().await?;
    let expected = [0, 250].map(|ms| ("owner".to_owned(), Duration::from_millis(ms)));
    assert_eq!(*seen.lock().expect("no panic"), expected);
    Ok(())
}

/// A layer around attempts sees each of them with its node, where one around calls sees one call.
#[tokio::test(start_paused = true)]
async fn attempts() -> Result<()> {
    let net = Net::new();
    let (_a, b) = (diary(&net, "a", 100).await?, diary(&net, "b", 100).await?);
    b.kill();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let nodes = seen.clone();
    let note = move |request: Request, next: Next| {
        let address = request.extensions.get::<Address>().map(ToString::to_string);
        nodes.lock().expect("no panic").extend(address);
        next.run(request)
    };
    let client = net.connect().layer(from_fn(as_ann)).attempt_layer(from_fn(note));
    let diary = DiaryClient::new(&client.await?);
    for _ in 0..30 {
        diary.owner().await?;
    }
    let seen = seen.lock().expect("no panic");
    assert!(seen.len() > 30 && seen.iter().any(|node| node == "memory:node-2"), "{seen:?}");
    Ok(())
}

/// The program prints what its header says: three entries, two refusals for want of calls, and one
/// of the guessed token.
#[tokio::test]
async fn the_program() {
    let scene = Scene::new();
    let mut program = scene.run(env!("CARGO_BIN_EXE_middleware"), "middleware", &[]);
    assert!(program.ended().await.success());
    let (printed, log) = (program.stdout(), program.stderr());
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 6, "{printed}");
    assert_eq!(lines[..3], ["the diary of Ann"; 3]);
    assert!(lines[3..5].iter().all(|line| line.contains("too many calls")), "{printed}");
    assert!(lines[5].contains("no valid token"), "{printed}");
    assert_eq!(log.matches("\"answered\"").count(), 3, "{log}");
    assert_eq!(log.matches("\"served\"").count(), 6, "{log}");
}
