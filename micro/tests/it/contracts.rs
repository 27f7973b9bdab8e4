//! The values that contracts exchange, there and back over the network.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use micro::rpc::{Channel, ChannelConfig, Codec, Request, Response};
use micro::{CallError, Code, Contract};

use super::*;

/// Gives back what it gets.
#[micro::service]
pub trait Echo {
    async fn none(&self);
    async fn one(&self, value: u64) -> u64;
    async fn many(&self, a: u8, b: i16, c: char, d: f64, e: bool, f: ()) -> String;
    #[allow(clippy::too_many_arguments)]
    async fn most(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
    ) -> u32;
    async fn option(&self, value: Option<Option<String>>) -> Option<String>;
    async fn list(&self, values: Vec<Option<u8>>) -> Vec<Option<u8>>;
    async fn tuple(&self, value: (u8, (String, bool))) -> (u8, (String, bool));
    async fn array(&self, value: [u16; 3]) -> [u16; 3];
    async fn map(&self, value: HashMap<String, Vec<i64>>) -> BTreeMap<u32, Point>;
    async fn nested(&self, value: Shape) -> Shape;
    async fn bytes(&self, value: Bytes) -> Bytes;
    async fn boxed(&self, value: Box<Point>) -> std::boxed::Box<Point>;
    async fn result_in_option(
        &self,
        value: Option<Result<u8, String>>,
    ) -> Option<Result<u8, String>>;
    async fn fallible(&self, fail: bool) -> std::result::Result<(), ShopError>;
}

/// A value with names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    x: i32,
    y: Option<i32>,
}

/// A value of one kind or another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// No fields.
    Empty,
    /// Fields with names.
    Circle {
        /// Where.
        center: Point,
        /// How large.
        radius: f32,
    },
    /// Others.
    Group(Vec<Shape>),
}

#[derive(Clone)]
struct Same;

impl Echo for Same {
    async fn none(&self) {}
    async fn one(&self, value: u64) -> u64 {
        value
    }
    async fn many(&self, a: u8, b: i16, c: char, d: f64, e: bool, f: ()) -> String {
        format!("{a} {b} {c} {d} {e} {f:?}")
    }
    async fn most(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
    ) -> u32 {
        let each = [a, b, c, d, e, f, g, h, i, j, k, l];
        each.iter().fold(0, |sum, value| sum * 2 + u32::from(*value))
    }
    async fn option(&self, value: Option<Option<String>>) -> Option<String> {
        value.flatten()
    }
    async fn list(&self, values: Vec<Option<u8>>) -> Vec<Option<u8>> {
        values
    }
    async fn tuple(&self, value: (u8, (String, bool))) -> (u8, (String, bool)) {
        value
    }
    async fn array(&self, value: [u16; 3]) -> [u16; 3] {
        value
    }
    async fn map(&self, value: HashMap<String, Vec<i64>>) -> BTreeMap<u32, Point> {
        let point = |values: Vec<i64>| Point { x: values.len() as i32, y: None };
        value.into_iter().map(|(key, values)| (key.len() as u32, point(values))).collect()
    }
    async fn nested(&self, value: Shape) -> Shape {
        value
    }
    async fn bytes(&self, value: Bytes) -> Bytes {
        value
    }
    async fn boxed(&self, value: Box<Point>) -> Box<Point> {
        value
    }
    async fn result_in_option(
        &self,
        value: Option<Result<u8, String>>,
    ) -> Option<Result<u8, String>> {
        value
    }
    async fn fallible(&self, fail: bool) -> Result<(), ShopError> {
        if fail { Err(ShopError::Closed) } else { Ok(()) }
    }
}

/// Every kind of value that serde knows goes there and comes back as it was.
#[tokio::test(start_paused = true)]
async fn values_travel() {
    let town = Town::default();
    let _service = town.serve(EchoServer::new(Same)).await;
    let echo = EchoClient::named(&town.client().await, "shop");
    echo.none().await.unwrap();
    assert_eq!(echo.one(u64::MAX).await.unwrap(), u64::MAX);
    assert_eq!(echo.many(1, -2, 'ä', 0.5, true, ()).await.unwrap(), "1 -2 ä 0.5 true ()");
    assert_eq!(echo.most(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1).await.unwrap(), 2049);
    assert_eq!(echo.option(None).await.unwrap(), None);
    assert_eq!(echo.option(Some(Some("a".into()))).await.unwrap().as_deref(), Some("a"));
    assert_eq!(echo.list(vec![None, Some(1)]).await.unwrap(), [None, Some(1)]);
    assert_eq!(echo.tuple((1, ("a".into(), true))).await.unwrap(), (1, ("a".into(), true)));
    assert_eq!(echo.array([1, 2, 300]).await.unwrap(), [1, 2, 300]);
    let map = echo.map(HashMap::from([("ab".into(), vec![1, 2, 3])])).await.unwrap();
    assert_eq!(map, BTreeMap::from([(2, Point { x: 3, y: None })]));
    let circle = Shape::Circle { center: Point { x: 1, y: Some(-1) }, radius: 0.5 };
    let group = Shape::Group(vec![Shape::Empty, circle]);
    assert_eq!(echo.nested(group.clone()).await.unwrap(), group);
    assert_eq!(echo.bytes(Bytes::from_static(b"\0\xff")).await.unwrap(), b"\0\xff"[..]);
    assert_eq!(echo.boxed(Box::new(Point { x: 1, y: None })).await.unwrap().x, 1);
    assert_eq!(echo.result_in_option(Some(Err("a".into()))).await.unwrap(), Some(Err("a".into())));
    echo.fallible(false).await.unwrap();
    assert!(matches!(echo.fallible(true).await, Err(CallError::App(ShopError::Closed))));
}

/// `Bytes` are binary data in MessagePack, not a list of numbers.
#[tokio::test(start_paused = true)]
async fn bytes_are_binary() {
    let town = Town::default();
    let _service = town.serve(EchoServer::new(Same)).await;
    let body = Bytes::from_static(b"\x81\xa5value\xc4\x03\0\xff\x01");
    let answer = town.call("echo", "bytes", Codec::MessagePack, body).await.unwrap();
    assert_eq!(&answer.body[..], b"\xc4\x03\0\xff\x01");
}

/// Callers may be newer or older: unknown names are ignored, an `Option` may be left out. Anything
/// else that is missing, twice there, or of another type is named.
#[tokio::test(start_paused = true)]
async fn arguments_go_by_name() {
    let town = Town::default();
    let _service = town.serve(EchoServer::new(Same)).await;
    for (method, body, expected) in [
        ("none", r#"{"new":{"a":[1]}}"#, "null"),
        ("one", r#"{"new":[1],"value":7,"newer":null}"#, "7"),
        ("option", "{}", "null"),
        ("option", r#"{"value":null}"#, "null"),
    ] {
        let answer = town.call("echo", method, Codec::Json, body).await.unwrap();
        assert_eq!(&answer.body[..], expected.as_bytes(), "{method} {body}");
    }
    for (method, body, named) in [
        ("one", "{}", "missing field `value`"),
        ("one", r#"{"value":1,"value":2}"#, "duplicate field `value`"),
        ("one", r#"{"value":"1"}"#, "expected u64"),
        ("one", "7", "not a map"),
        ("list", "{}", "missing field `values`"),
        ("none", "null", "not a map"),
        ("one", "[7]", "not a map"),
    ] {
        let error = town.call("echo", method, Codec::Json, body).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{method} {body}");
        assert!(error.message().contains(named), "{method} {body}: {error}");
    }
}

impl Town {
    /// Serves this contract as the service `shop`.
    pub(super) async fn serve(&self, contract: impl Into<Contract>) -> RunningService {
        registered(self.service("a").serve(contract)).await
    }

    /// Calls with bytes that no client would send.
    pub(super) async fn call(
        &self,
        contract: &'static str,
        method: &'static str,
        codec: Codec,
        body: impl Into<Bytes>,
    ) -> Result<Response, micro::rpc::Error> {
        let config = ChannelConfig { memory: Some(self.network.clone()), ..Default::default() };
        let channel = Channel::new("memory:a".parse().expect("an address"), config);
        channel.call(&Request::new(contract, method, codec, body.into())).await
    }
}
