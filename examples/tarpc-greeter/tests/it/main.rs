//! One implementation under the same test, on tarpc's own channel and on ours, and as a program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod processes;

use futures::StreamExt;
use micro::registry::MemoryRegistry;
use tarpc::client::{self, NewClient};
use tarpc::context;
use tarpc::server::{BaseChannel, Channel, Serve};
use tarpc::transport::channel;
use tarpc_greeter::{English, Greeter, GreeterClient, GreeterStub, Nobody};
use tokio::task::JoinSet;

/// On the channel that tarpc itself has for tests, the implementation greets.
#[tokio::test]
async fn greets_over_tarpc() {
    let (ours, theirs) = channel::unbounded();
    let mut tasks = JoinSet::new();
    let answers = BaseChannel::with_defaults(theirs).execute(English.serve());
    tasks.spawn(answers.for_each_concurrent(None, |answer| answer));
    let NewClient { client, dispatch } = GreeterClient::new(client::Config::default(), ours);
    tasks.spawn(async { dispatch.await.unwrap() });
    greets(&client).await;
}

/// Registered, found and called, it does the same.
#[tokio::test]
async fn greets_over_micro() {
    let (registry, settings) = (MemoryRegistry::new(), micro::Settings::none());
    let english = micro::tarpc::host(|cx, request| Serve::serve(English.serve(), cx, request));
    let service = micro::Service::new().settings(settings.clone()).registry(registry.clone());
    let service = service.serve(english).start().await.unwrap();
    let client = micro::Client::connect().settings(settings).registry(registry);
    let client = client.wait_for_ready(true).await.unwrap();
    greets(&GreeterClient::from(micro::tarpc::stub(&client, "greeter"))).await;
    service.shutdown().await;
}

async fn greets<S: GreeterStub>(greeter: &GreeterClient<S>) {
    let cx = context::current();
    assert_eq!(greeter.hello(cx, "Ann".into()).await.unwrap(), "Hello, Ann!");
    let both = vec!["Ann".into(), "Bob".into()];
    assert_eq!(greeter.hello_all(cx, both).await.unwrap(), Ok("Hello, Ann and Bob!".into()));
    assert_eq!(greeter.hello_all(cx, vec![]).await.unwrap(), Err(Nobody));
}
