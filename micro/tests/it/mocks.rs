//! Generated mocks, called directly and as a service.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use micro::{CallError, Code};

use super::*;

/// A contract with a mock, in tests only.
#[cfg_attr(test, micro::service(mock))]
#[cfg_attr(not(test), micro::service)]
pub trait Greeter {
    /// Says hello.
    async fn hello(&self, name: String) -> Result<String, ShopError>;
    /// Says hello to many.
    async fn all(&self, names: Vec<String>, loud: bool) -> Vec<String>;
    /// Counts the greetings.
    async fn count(&self, cx: &Context) -> u64;
    /// Takes what cannot be cloned.
    async fn keep(&self, only: Unique);
}

/// A value that cannot be cloned.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Unique(u8);

/// What is told to answer answers, with the arguments as an implementation gets them.
#[tokio::test]
async fn answers_as_told() {
    let greeter = MockGreeter::new()
        .on_hello(|name| match name.as_str() {
            "Bob" => Err(ShopError::Closed),
            _ => Ok(format!("Hi {name}")),
        })
        .on_all(|names, loud| if loud { names } else { Vec::new() })
        .on_keep(|Unique(_)| ());
    assert_eq!(greeter.hello("Ann".to_owned()).await.unwrap(), "Hi Ann");
    assert_eq!(greeter.hello("Bob".to_owned()).await, Err(ShopError::Closed));
    assert_eq!(greeter.all(vec!["a".to_owned()], true).await, ["a"]);
    greeter.keep(Unique(1)).await;
    assert_eq!(greeter.calls_of_hello(), ["Ann", "Bob"]);
    assert_eq!(greeter.calls_of_all(), [(vec!["a".to_owned()], true)]);
    assert_eq!(greeter.calls_of_keep(), [Unique(1)]);
    assert_eq!(greeter.calls_of_count().len(), 0);
}

/// Clones share answers and calls, so that a test keeps its hands on what a service serves.
#[tokio::test(start_paused = true)]
async fn clones_share_everything() {
    let town = Town::default();
    let mock = MockGreeter::default().on_hello(|name| Ok(format!("Hi {name}")));
    let _service = town.serve(GreeterServer::new(mock.clone())).await;
    let greeter = GreeterClient::named(&town.client().await, "shop");
    assert_eq!(greeter.hello("Ann").await.unwrap(), "Hi Ann");
    let mock = mock.on_hello(|_| Err(ShopError::Closed)).on_count(|| 7);
    assert!(matches!(greeter.hello("Bob").await, Err(CallError::App(ShopError::Closed))));
    assert_eq!(greeter.count().await.unwrap(), 7);
    assert_eq!(mock.calls_of_hello(), ["Ann", "Bob"]);
    assert_eq!(mock.calls_of_count(), [()]);
}

/// A method without an answer panics and says what to write; a caller over the network gets
/// `internal`. The call counts.
#[tokio::test(start_paused = true)]
async fn without_an_answer() {
    let mock = MockGreeter::new();
    let panic = AssertUnwindSafe(mock.hello("Ann".to_owned())).catch_unwind().await.unwrap_err();
    assert_eq!(
        panic.downcast_ref::<String>().unwrap(),
        "MockGreeter::hello was called but has no answer: write `.on_hello(…)`"
    );
    let town = Town::default();
    let _service = town.serve(GreeterServer::new(mock.clone())).await;
    let greeter = GreeterClient::named(&town.client().await, "shop");
    let Err(CallError::Rpc(error)) = greeter.hello("Bob").await else { panic!() };
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(mock.calls_of_hello(), ["Ann", "Bob"]);
}

/// An answer may use the mock it belongs to, and panic without harm to later calls.
#[tokio::test]
async fn answers_run_unlocked() {
    let mock = MockGreeter::new();
    let own = mock.clone();
    let mock = mock.on_hello(move |name| match own.calls_of_hello().len() {
        1 => panic!("on purpose"),
        calls => Ok(format!("{name} {calls}")),
    });
    let first = AssertUnwindSafe(mock.hello("Ann".to_owned())).catch_unwind().await;
    assert!(first.is_err());
    assert_eq!(mock.hello("Ann".to_owned()).await.unwrap(), "Ann 2");
}

/// Mocks say in tests' output which methods answer and how often they were called.
#[tokio::test]
async fn mocks_are_debuggable() {
    let mock = MockGreeter::new().on_hello(Ok);
    mock.hello("Ann".to_owned()).await.unwrap();
    let text = format!("{mock:?}");
    assert!(text.contains("hello: Mocked { has_answer: true, calls: 1 }"), "{text}");
    assert!(text.contains("all: Mocked { has_answer: false, calls: 0 }"), "{text}");
}
