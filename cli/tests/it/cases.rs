//! The same answer whichever way one asks: on a service's own port, through the gateway, and with
//! `micro call` through the registry or at an address.

use std::collections::BTreeMap;

use bytes::Bytes;
use micro::layer::{self, BoxError};
use micro::rpc::{Limits, Request, Response, Status};
use micro::{Code, Context, RunningService};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testbed::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::shop::{Answer, Town, ask, post, registered};

/// A call, and how it ends.
struct Case {
    name: &'static str,
    /// As `micro call` is told.
    method: &'static str,
    /// The body over HTTP.
    arguments: String,
    verb: &'static str,
    metadata: &'static [(&'static str, &'static str)],
    timeout: Option<&'static str>,
    end: End,
    told: Told,
    /// The ways that lead there.
    ways: &'static [Way],
}

/// What a call ends with.
enum End {
    Answer,
    Error {
        code: &'static str,
        status: u16,
        /// That of `micro call`.
        exit: i32,
    },
}

/// How an error is told of.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// By all ways in the same words.
    Same,
    /// In the same words, behind which some ways say where to read on, or how often they tried.
    More,
    /// By each way in its own words.
    Own,
    /// By `micro call` in its own words, before it calls anybody.
    Before,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    OwnPort,
    Gateway,
    Registry,
    Address,
}

use Way::{Address, Gateway, OwnPort, Registry};

fn answers(name: &'static str, method: &'static str, arguments: impl Into<String>) -> Case {
    Case {
        name,
        method,
        arguments: arguments.into(),
        verb: "POST",
        metadata: &[],
        timeout: None,
        end: End::Answer,
        told: Told::Same,
        ways: &[OwnPort, Gateway, Registry, Address],
    }
}

fn fails(
    name: &'static str,
    method: &'static str,
    arguments: impl Into<String>,
    (code, status, exit): (&'static str, u16, i32),
) -> Case {
    Case { end: End::Error { code, status, exit }, ..answers(name, method, arguments) }
}

/// Codes with the status over HTTP and the exit code of the program.
const NOT_UNDERSTOOD: (&str, u16, i32) = ("invalid_argument", 400, 2);
const NO_METHOD: (&str, u16, i32) = ("unimplemented", 404, 5);
const OVERLOADED: (&str, u16, i32) = ("resource_exhausted", 429, 6);
const TOO_LONG: (&str, u16, i32) = ("resource_exhausted", 413, 6);
const ANONYMOUS: (&str, u16, i32) = ("unauthenticated", 401, 1);

fn cases() -> Vec<Case> {
    let deep = |depth| format!(r#"{{"items":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    vec![
        answers("no arguments", "kinds.nothing", "{}"),
        answers("no body", "kinds.nothing", ""),
        answers("one, and an option that is missing", "shop.price", r#"{"thing":"tea"}"#),
        answers("an option that is given", "shop.price", r#"{"thing":"tea","count":4}"#),
        answers("an option that is null", "shop.price", r#"{"thing":"tea","count":null}"#),
        answers("an option comes back", "kinds.maybe", r#"{"text":"x"}"#),
        answers("nothing comes back", "kinds.maybe", "{}"),
        answers("a field nobody knows", "shop.price", r#"{"thing":"tea","new":[1,{"a":null}]}"#),
        answers("in another order", "shop.price", r#"{"count":2,"thing":"tea"}"#),
        answers("space around", "shop.price", " \n{ \"thing\":\t\"tea\" }\n"),
        answers(
            "unicode",
            "shop.echo",
            r#"{"text":"ä\n\"\u0001😀\u00e9","tags":["a"],"at":"here"}"#,
        ),
        answers(
            "an enum with fields",
            "shop.echo",
            r#"{"text":"","tags":[],"at":{"there":{"metres":0.5}}}"#,
        ),
        answers("lists in lists", "kinds.list", r#"{"items":[[1,-2],[],[3]]}"#),
        answers("a map", "kinds.map", r#"{"counts":{"b":1,"a":2}}"#),
        answers(
            "types in types, with defaults",
            "kinds.nested",
            r#"{"order":{"lines":[{"thing":"tea"},{"thing":"pot","count":3}]}}"#,
        ),
        answers("bytes", "kinds.bytes", r#"{"bytes":[0,127,128,255]}"#),
        answers(
            "the largest",
            "kinds.numbers",
            format!(r#"{{"i":{},"u":{}}}"#, i64::MAX, u64::MAX),
        ),
        answers("the smallest", "kinds.numbers", format!(r#"{{"i":{},"u":0}}"#, i64::MIN)),
        answers("fractions", "kinds.fractions", r#"{"long":0.1,"short":0.1,"on":true}"#),
        answers("large fractions", "kinds.fractions", r#"{"long":-1.5e300,"short":3,"on":false}"#),
        answers("after a while", "shop.wait", r#"{"millis":1}"#),
        Case { timeout: Some("60s"), ..answers("in time", "shop.wait", r#"{"millis":1}"#) },
        Case {
            metadata: &[("tenant", "acme"), ("k", "a=b")],
            ..answers("metadata", "shop.echo", r#"{"text":"","tags":[],"at":"here"}"#)
        },
        answers("by its contract", "kinds/kinds.maybe", "{}"),
        Case {
            metadata: &[("authorization", "Bearer geheim")],
            ..answers("who says who it is", "kinds.who", "{}")
        },
        fails("who does not", "kinds.who", "{}", ANONYMOUS),
        Case {
            metadata: &[("authorization", "Bearer other")],
            ..fails("who is somebody else", "kinds.who", "{}", ANONYMOUS)
        },
        fails("a method's own error", "shop.price", r#"{"thing":"boat"}"#, ("not_found", 404, 1)),
        fails(
            "another",
            "shop.price",
            r#"{"thing":"tea","count":0}"#,
            ("invalid_argument", 400, 1),
        ),
        fails("an error with metadata", "kinds.refuse", "{}", ("aborted", 409, 1)),
        fails("an error without a type", "shop.break_down", "{}", ("failed_precondition", 400, 1)),
        fails("a panic", "shop.panic", "{}", ("internal", 500, 1)),
        fails("a field that is missing", "shop.price", "{}", NOT_UNDERSTOOD),
        fails("no body where one is needed", "shop.price", "", NOT_UNDERSTOOD),
        fails("a wrong type", "shop.price", r#"{"thing":5}"#, NOT_UNDERSTOOD),
        fails("null", "shop.price", r#"{"thing":null}"#, NOT_UNDERSTOOD),
        fails("out of range", "shop.price", r#"{"thing":"tea","count":-1}"#, NOT_UNDERSTOOD),
        fails(
            "above the largest",
            "kinds.numbers",
            r#"{"i":9223372036854775808,"u":0}"#,
            NOT_UNDERSTOOD,
        ),
        fails(
            "no such variant",
            "shop.echo",
            r#"{"text":"","tags":[],"at":"nowhere"}"#,
            NOT_UNDERSTOOD,
        ),
        fails("a field twice", "shop.price", r#"{"thing":"tea","thing":"boat"}"#, NOT_UNDERSTOOD),
        fails("a list of arguments", "shop.price", r#"["tea"]"#, NOT_UNDERSTOOD),
        fails("a text", "shop.price", r#""tea""#, NOT_UNDERSTOOD),
        fails("too deep", "kinds.list", deep(200), NOT_UNDERSTOOD),
        fails("deep where nobody looks", "shop.price", deep(200), NOT_UNDERSTOOD),
        Case {
            told: Told::Before,
            ..fails("half of it", "shop.price", r#"{"thing":"te"#, NOT_UNDERSTOOD)
        },
        Case { told: Told::Before, ..fails("no JSON", "shop.price", "thing=tea", NOT_UNDERSTOOD) },
        Case {
            told: Told::Before,
            ..fails("more than JSON", "shop.price", r#"{"thing":"tea"}{}"#, NOT_UNDERSTOOD)
        },
        Case { told: Told::More, ..fails("no such method", "shop/shop.prise", "{}", NO_METHOD) },
        Case { told: Told::More, ..fails("no such contract", "shop/till.price", "{}", NO_METHOD) },
        Case { told: Told::Before, ..fails("not a method of it", "shop.prise", "{}", NO_METHOD) },
        Case {
            told: Told::Before,
            ways: &[Gateway, Registry],
            ..fails("no such service", "nobody.price", "{}", ("not_found", 404, 3))
        },
        Case {
            told: Told::Own,
            timeout: Some("100ms"),
            ..fails("too late", "shop.wait", r#"{"millis":60000}"#, ("deadline_exceeded", 504, 4))
        },
        Case {
            told: Told::More,
            ..fails("too much to do", "narrow/shop.price", r#"{"thing":"tea"}"#, OVERLOADED)
        },
        Case {
            told: Told::Own,
            ..fails(
                "too long",
                "shop.price",
                json!({"thing": "x".repeat(5_000_000)}).to_string(),
                TOO_LONG,
            )
        },
        // An answer over HTTP may be of any length; whoever calls for others takes no more than a frame.
        Case {
            ways: &[Gateway, Registry, Address],
            ..fails(
                "an answer too long",
                "shop.letters",
                r#"{"count":5000000}"#,
                ("resource_exhausted", 429, 1),
            )
        },
        Case {
            verb: "GET",
            ways: &[OwnPort, Gateway],
            ..fails("to get what changes", "shop.wait", "", ("unimplemented", 405, 0))
        },
    ]
}

/// Each way to call a method gives the same answer and metadata, or the same code, words and details
/// of an error.
#[tokio::test]
async fn the_same_by_all_ways() {
    let place = Place::new().await;
    let cases = cases();
    assert!(cases.len() >= 30);
    let mut wrong = Vec::new();
    for case in cases {
        let mut first = None;
        for way in case.ways {
            let outcome = place.outcome(&case, *way).await;
            if !case.is_expected(&outcome, *way) {
                wrong.push(format!("{}, {way:?}: {outcome:?}", case.name));
            }
            if case.is_untold(*way) {
                continue;
            }
            let outcome = case.compared(outcome);
            let (expected, by) = first.get_or_insert_with(|| (outcome.clone(), *way));
            if outcome != *expected {
                let name = case.name;
                wrong.push(format!("{name}: {by:?} {expected:?}, but {way:?} {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Way {
    fn is_http(self) -> bool {
        matches!(self, OwnPort | Gateway)
    }
}

impl Case {
    /// Service, contract and method.
    fn path(&self) -> (&str, &str, &str) {
        let (of, method) = self.method.split_once('.').unwrap();
        let (service, contract) = of.split_once('/').unwrap_or((of, of));
        (service, contract, method)
    }

    fn gateway_path(&self) -> String {
        format!("/{}", self.method.replace('.', "/"))
    }

    /// Whether the call ended as the table says.
    fn is_expected(&self, outcome: &Outcome, way: Way) -> bool {
        let (code, status, exit) = match self.end {
            End::Answer => (None, 200, 0),
            End::Error { code, status, exit } => (Some(code), status, exit),
        };
        let expected = if way.is_http() { status.into() } else { exit };
        outcome.status == expected && (self.is_untold(way) || outcome.code() == code)
    }

    /// Whether there is no more than a status.
    fn is_untold(&self, way: Way) -> bool {
        self.told == Told::Before && !way.is_http()
    }

    /// What all ways have in common.
    fn compared(&self, outcome: Outcome) -> (Value, BTreeMap<String, String>) {
        let Outcome { mut told, metadata, is_error, .. } = outcome;
        if is_error {
            let words = told["message"].take();
            let words = words.as_str().unwrap();
            told["message"] = match self.told {
                Told::Same => words.into(),
                Told::More | Told::Before => words.split("; ").next().into(),
                Told::Own => Value::Null,
            };
        }
        (told, metadata)
    }
}

/// What a call ended with, by one of the ways.
#[derive(Debug)]
struct Outcome {
    /// Over HTTP, or that of the program.
    status: i32,
    /// The answer, or the error as it is over HTTP.
    told: Value,
    metadata: BTreeMap<String, String>,
    is_error: bool,
}

impl Outcome {
    fn code(&self) -> Option<&str> {
        self.is_error.then(|| self.told["code"].as_str().unwrap_or_default())
    }
}

/// Services, and a gateway in front of them.
struct Place {
    town: Town,
    services: BTreeMap<&'static str, RunningService>,
    gateway: micro_gateway::Gateway,
    /// A call that leaves no room for another at the narrow service, until it is dropped.
    _busy: TcpStream,
}

impl Place {
    async fn new() -> Self {
        let town = Town::new();
        let kinds = town.service("kinds").name("kinds").serve(KindsServer::new(Each));
        let kinds = registered(kinds.layer(layer::from_fn(authenticated))).await;
        let limits = Limits { max_running: 1, max_queued: 0, ..Limits::default() };
        let narrow = registered(town.service("narrow").name("narrow").limits(limits)).await;
        let busy = busy(&narrow.registration().node.address).await;
        let services = [("shop", town.open("shop").await), ("kinds", kinds), ("narrow", narrow)];
        let gateway = town.gateway(None).await;
        Self { services: services.into(), gateway, town, _busy: busy }
    }

    /// That of a service; of any for one that does not exist.
    fn address(&self, service: &str) -> String {
        let service = self.services.get(service).unwrap_or(&self.services["shop"]);
        service.registration().node.address.clone()
    }

    async fn outcome(&self, case: &Case, way: Way) -> Outcome {
        match way {
            OwnPort | Gateway => self.over_http(case, way).await,
            Registry | Address => self.by_program(case, way).await,
        }
    }

    async fn over_http(&self, case: &Case, way: Way) -> Outcome {
        let (service, contract, method) = case.path();
        let (address, path) = match way {
            OwnPort => (self.address(service), format!("/{contract}/{method}")),
            _ => (self.gateway.address().to_string(), case.gateway_path()),
        };
        let mut headers = String::new();
        for (key, value) in case.metadata {
            headers += &match *key {
                "authorization" => format!("authorization: {value}\r\n"),
                key => format!("micro-meta-{key}: {value}\r\n"),
            };
        }
        headers.extend(case.timeout.map(|timeout| format!("micro-timeout: {timeout}\r\n")));
        let answer = ask(&address, case.verb, &path, &headers, &case.arguments).await;
        let Answer { status, metadata, body } = answer;
        Outcome { status: status.into(), told: body, metadata, is_error: status != 200 }
    }

    async fn by_program(&self, case: &Case, way: Way) -> Outcome {
        let address = self.address(case.path().0);
        let mut line = vec!["call", case.method, "-o", "json"];
        let metadata: Vec<_> =
            case.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        line.extend(metadata.iter().flat_map(|entry| ["--metadata", entry]));
        line.extend(case.timeout.iter().flat_map(|timeout| ["--timeout", timeout]));
        if way == Address {
            line.extend(["--registry", "local:/nosuch/at/all", "--address", &address]);
        }
        if !case.arguments.is_empty() {
            line.push("-");
        }
        let ended = self.town.micro_with(&line, &case.arguments).await;
        let status = ended.code.unwrap();
        if ended.stdout.is_empty() {
            assert!(ended.stderr.starts_with("error: "), "{ended:?}");
            return Outcome {
                status,
                told: Value::Null,
                metadata: BTreeMap::new(),
                is_error: true,
            };
        }
        let mut printed = ended.json();
        let metadata = serde_json::from_value(printed["metadata"].take()).unwrap();
        let Some(error) = printed.get_mut("error") else {
            return Outcome { status, told: printed["answer"].take(), metadata, is_error: false };
        };
        error.as_object_mut().unwrap().remove("phase");
        let told = error.take();
        assert!(ended.stderr.contains(told["message"].as_str().unwrap()), "{ended:?}");
        if let Some(details) = told.get("details") {
            assert!(ended.stderr.contains(&format!("details: {details}\n")), "{ended:?}");
        }
        Outcome { status, told, metadata, is_error: true }
    }
}

/// Begins a call that takes a minute, and waits until it runs.
async fn busy(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let arguments = r#"{"millis":60000}"#;
    let length = arguments.len();
    let request = format!(
        "POST /shop/wait HTTP/1.1\r\nHost: localhost\r\nmicro-timeout: 600s\r\n\
         Content-Length: {length}\r\n\r\n{arguments}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let tea = r#"{"thing":"tea"}"#;
    let is_full = async || (post(address, "/shop/price", "", tea).await.0 == 429).then_some(());
    eventually("there is no room", is_full).await;
    stream
}

/// A method for each kind of type, and for what the shop has no use for.
#[micro::service]
pub trait Kinds {
    /// Takes and gives nothing.
    async fn nothing(&self);
    /// Gives back what it is given, or nothing.
    async fn maybe(&self, text: Option<String>) -> Option<String>;
    /// Gives back lists.
    async fn list(&self, items: Vec<Vec<i32>>) -> Vec<Vec<i32>>;
    /// Gives back a map.
    async fn map(&self, counts: BTreeMap<String, u64>) -> BTreeMap<String, u64>;
    /// Gives back types within types.
    async fn nested(&self, order: Order) -> Order;
    /// Gives back bytes.
    async fn bytes(&self, bytes: Bytes) -> Bytes;
    /// Gives back whole numbers.
    async fn numbers(&self, i: i64, u: u64) -> (i64, u64);
    /// Gives back other numbers.
    async fn fractions(&self, long: f64, short: f32, on: bool) -> (f64, f32, bool);
    /// Who calls.
    async fn who(&self, cx: &Context) -> String;
    /// Says no, and something beside that.
    async fn refuse(&self, cx: &Context) -> Result<(), Refusal>;
}

/// What is ordered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    lines: Vec<Line>,
    #[serde(default = "nowhere")]
    to: String,
}

/// A line of an order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    thing: String,
    #[serde(default)]
    count: u8,
}

fn nowhere() -> String {
    "nowhere".to_owned()
}

/// Why not.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum Refusal {
    /// Not at this time.
    #[error("not before {hour}")]
    #[rpc(code = aborted)]
    NotNow {
        /// When.
        hour: u8,
    },
}

#[derive(Clone)]
struct Each;

impl Kinds for Each {
    async fn nothing(&self) {}

    async fn maybe(&self, text: Option<String>) -> Option<String> {
        text
    }

    async fn list(&self, items: Vec<Vec<i32>>) -> Vec<Vec<i32>> {
        items
    }

    async fn map(&self, counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        counts
    }

    async fn nested(&self, order: Order) -> Order {
        order
    }

    async fn bytes(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    async fn numbers(&self, i: i64, u: u64) -> (i64, u64) {
        (i, u)
    }

    async fn fractions(&self, long: f64, short: f32, on: bool) -> (f64, f32, bool) {
        (long, short, on)
    }

    async fn who(&self, cx: &Context) -> String {
        cx.metadata().get("authorization").unwrap_or_default().to_owned()
    }

    async fn refuse(&self, cx: &Context) -> Result<(), Refusal> {
        cx.reply_metadata("hint", "later").unwrap();
        Err(Refusal::NotNow { hour: 9 })
    }
}

/// Lets those find out who they are who say it rightly.
async fn authenticated(request: Request, next: layer::Next) -> Result<Response, BoxError> {
    let is_known = request.metadata.get("authorization") == Some("Bearer geheim");
    match &*request.method {
        "who" if !is_known => Err(Status::new(Code::Unauthenticated, "say who you are").into()),
        _ => next.run(request).await,
    }
}
