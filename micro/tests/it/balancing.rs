//! What users set of balancing, for a client, for a call, in code and in settings; and what is refused.

use std::collections::BTreeSet;
use std::path::Path;

use micro::layer::{self, Next};
use micro::rpc::{Request, Status};
use micro::selector::StrategyKind;
use micro::test::{Net, Node};
use micro::{BudgetPolicy, CallError, Code, Filter, Retry, ThrottlePolicy};

use super::*;

async fn refusal(builder: ClientBuilder) -> String {
    match builder.await {
        Ok(_) => panic!("it connected"),
        Err(error) => error.to_string(),
    }
}

/// Every bad value is named with where it came from and what would be right.
#[tokio::test]
async fn bad_values_are_refused() {
    let net = Net::new();
    let code = || net.connect();
    let flag =
        |key: &str, value: &str| net.connect().settings(Settings::none().flag(key, value).unwrap());
    let variable = |name: &str, value: &str| {
        let variables = [(name.into(), value.into())];
        net.connect().settings(Settings::from_parts(None, variables).unwrap())
    };
    let file = |text: &str| {
        let settings = Settings::from_parts(Some((Path::new("micro.toml"), text)), []);
        net.connect().settings(settings.unwrap())
    };
    let window = Duration::from_secs(1);
    let hashing = || code().strategy(StrategyKind::ConsistentHash);
    let cases = [
        (code().zone(""), "zone \"\" from code", "expected 1 to 128 of A-Z"),
        (variable("MICRO_ZONE", "a b"), "zone \"a b\" from environment variable", "expected 1 to"),
        (
            flag("filter", "version=1.x.y"),
            "filter \"version=1.x.y\" from flag --filter",
            "expected `latest`, a version such as 1.4.2, or a range",
        ),
        (flag("filter", ""), "filter \"\" from flag --filter", "expected version=…, zone=… and"),
        (
            file("filter = \"label.=canary\""),
            "filter \"label.=canary\" from file micro.toml",
            "expected a label with a key of 1 to 128 bytes",
        ),
        (
            code().filter(Filter::default().label("", "x")),
            "filter \"label.=x\" from code",
            "expected a label with a key",
        ),
        (
            code().filter(Filter::default().zone("a b")),
            "filter \"zone=a b\" from code",
            "expected a zone",
        ),
        (
            code().retry(Retry::default().max_attempts(0)),
            "attempts 0 from code",
            "expected 1, which is never to try again, to 8",
        ),
        (flag("attempts", "9"), "attempts 9 from flag --attempts", "to 8"),
        (
            flag("attempts", "often"),
            "attempts \"often\" from flag --attempts",
            "expected a number, 1",
        ),
        (
            code().retry(Retry::default().backoff(window)),
            "retry from code: backoff 1s",
            "expected at most max_backoff, which is 250ms",
        ),
        (
            flag("retry_budget", "-1% + 10/s"),
            "retry_budget \"-1% + 10/s\" from flag --retry-budget",
            "0% to 100%",
        ),
        (
            flag("retry_budget", "some"),
            "retry_budget \"some\" from flag --retry-budget",
            "such as 20% + 10/s",
        ),
        (flag("retry_budget", "101%"), "retry_budget \"101% + 0/s\" from flag", "0% to 100%"),
        (
            code().retry_budget(BudgetPolicy::new(-0.1, 10)),
            "\"-10% + 10/s\" from code",
            "0% to 100%",
        ),
        (
            code().retry_budget(BudgetPolicy::new(f64::NAN, 10)),
            "\"NaN% + 10/s\" from",
            "0% to 100%",
        ),
        (
            code().retry_budget(BudgetPolicy::new(f64::INFINITY, 1)),
            "\"inf% + 1/s\" from",
            "0% to 100%",
        ),
        (flag("throttle", "1 over 1s"), "throttle \"1 over 1s\" from flag", "more than 1 attempt"),
        (flag("throttle", "2"), "throttle \"2\" from flag --throttle", "such as 1.7 over 1s"),
        (
            code().throttle(ThrottlePolicy::new(0.5, window)),
            "throttle \"0.5 over 1s\" from code",
            "more than 1 attempt",
        ),
        (
            code().throttle(ThrottlePolicy::new(2.0, Duration::ZERO)),
            "throttle \"2 over 0s\" from code",
            "expected a window of 100ms to 2m",
        ),
        (hashing(), "selector consistent-hash from code", "expected hash_by"),
        (
            variable("MICRO_SELECTOR", "consistent-hash"),
            "selector consistent-hash from environment variable MICRO_SELECTOR",
            "hash_by_call_keys()",
        ),
        (hashing().hash_by("User Id"), "hash_by \"User Id\" from code", "expected a metadata key"),
        (flag("hash_by", ""), "hash_by \"\" from flag --hash-by", "expected a metadata key"),
        (flag("selector", "consistent-hash"), "selector consistent-hash", "with `call keys`"),
        (flag("retry_budget", "20% + 30%"), "retry_budget \"20% + 30%\" from flag", "or one of"),
        (code().timeout(Duration::ZERO), "timeout 0s from code", "expected more than zero"),
        (code().connections_per_node(0), "connections_per_node 0 from code", "1 or more"),
    ];
    for (builder, named, advised) in cases {
        let error = refusal(builder).await;
        assert!(error.contains(named), "{error:?} does not name {named:?}");
        assert!(error.contains(advised), "{error:?} does not advise {advised:?}");
        assert!(error.matches(" is invalid").count() <= 1, "{error:?} repeats itself");
    }
}

/// What makes no sense of one call fails that call, unsent.
#[tokio::test(start_paused = true)]
async fn bad_options_fail_their_call() {
    let net = Net::new();
    let _node = open(&net, "a", |service| service).await;
    let shop = ShopClient::new(&net.client());
    for call in [
        shop.context("k").filter(Filter::default().label("", "x")),
        shop.context("k").retry(Retry::default().max_attempts(0)),
    ] {
        let Err(CallError::Rpc(error)) = call.await else { panic!("it was sent") };
        assert_eq!((error.code(), error.phase()), (Code::InvalidArgument, micro::Phase::Encode));
        assert!(error.to_string().contains(" is invalid: expected "), "{error}");
    }
}

async fn open(net: &Net, id: &str, make: impl FnOnce(Service) -> Service) -> Node {
    let corner = Corner { node: id.to_owned(), ..Corner::default() };
    let service = Service::new().name("shop").id(id).serve(ShopServer::new(corner));
    net.start(make(service)).await.expect("nothing about it is wrong")
}

/// Who answers a hundred calls.
async fn answered_by(shop: &ShopClient, make: impl Fn(u32, ShopCall) -> ShopCall) -> String {
    let mut nodes = BTreeSet::new();
    for number in 0..100 {
        let call = make(number, shop.context("key"));
        nodes.insert(call.await.expect("somebody answers").node);
    }
    nodes.into_iter().collect::<Vec<_>>().join(" ")
}

type ShopCall = micro::Call<Seen, std::convert::Infallible>;

/// Filters of a client, from code or settings, and of a call both apply.
#[tokio::test(start_paused = true)]
async fn filters_leave_nodes_out() {
    let net = Net::new();
    let of = |version: &'static str, zone: &'static str, track: &'static str| {
        move |service: Service| service.version(version).zone(zone).metadata("track", track)
    };
    let _nodes = (
        open(&net, "a", of("1.4.0", "x", "stable")).await,
        open(&net, "b", of("1.4.2", "y", "canary")).await,
        open(&net, "c", of("2.0.0", "y", "stable")).await,
    );
    let all = ShopClient::new(&net.client());
    assert_eq!(answered_by(&all, |_, call| call).await, "a b c");
    let version = |version: &str| Filter::default().version(version).expect("it is one");
    let only = |filter: Filter| answered_by(&all, move |_, call| call.filter(filter.clone()));
    assert_eq!(only(version("^1.4")).await, "a b");
    assert_eq!(only(version("1.4.2")).await, "b");
    assert_eq!(only(Filter::default().label("track", "stable").zone("y")).await, "c");
    let error = all.context("key").filter(version("3")).await.unwrap_err().to_string();
    let words = "none of 3 serving nodes of shop matches version=^3";
    assert!(error.contains(words), "{error}");

    let in_code = net.connect().filter(Filter::default().zone("y")).await.expect("it is fine");
    let in_code = ShopClient::new(&in_code);
    assert_eq!(answered_by(&in_code, |_, call| call).await, "b c");
    let error = in_code.context("key").filter(version("3")).await.unwrap_err().to_string();
    assert!(
        error.contains("none of 3 serving nodes of shop matches zone=y; version=^3"),
        "{error}"
    );
    assert_eq!(answered_by(&in_code, |_, call| call.filter(version("^1.4"))).await, "b");
    let settings = Settings::none().flag("filter", "version=>=1, <2; label.track=stable");
    let by_flag = net.connect().settings(settings.unwrap()).filter(Filter::default().zone("y"));
    let by_flag = ShopClient::new(&by_flag.await.expect("it is fine"));
    assert_eq!(answered_by(&by_flag, |_, call| call).await, "a");
}

/// A client prefers the nodes of its zone, told in code or by the settings; one of a service is in
/// the zone of that.
#[tokio::test(start_paused = true)]
async fn clients_have_a_zone() {
    let net = Net::new();
    let mut nodes = Vec::new();
    for id in ["x1", "x2", "x3", "y1", "y2", "y3"] {
        nodes.push(open(&net, id, |service| service.zone(&id[..1])).await);
    }
    let settings = Settings::from_parts(None, [("MICRO_ZONE".into(), "y".into())]).unwrap();
    for (client, zone) in [
        (net.connect().zone("x").await.unwrap(), "x"),
        (net.connect().zone("x").settings(settings).await.unwrap(), "y"),
        (nodes[5].service().client().unwrap(), "y"),
    ] {
        let shop = ShopClient::new(&client);
        let mut near = 0;
        for _ in 0..200 {
            let node = shop.context("key").await.expect("somebody answers").node;
            near += u32::from(node.starts_with(zone));
        }
        // One in a hundred looks around.
        assert!(near > 180, "{near}");
    }
}

/// The same key goes to the same node: a call's own, else what its metadata says, which may have
/// come as baggage.
#[tokio::test(start_paused = true)]
async fn keys_keep_to_their_node() {
    let net = Net::new();
    let mut nodes = Vec::new();
    for id in ["a", "b", "c", "d"] {
        nodes.push(open(&net, id, |service| service).await);
    }
    let hashing = || net.connect().strategy(StrategyKind::ConsistentHash);
    let by_metadata = hashing().hash_by("baggage.user").await.expect("it has a key");
    let by_metadata = ShopClient::new(&by_metadata);
    let by_call = ShopClient::new(&hashing().hash_by_call_keys().await.expect("calls have keys"));
    let mut homes = BTreeSet::new();
    for user in ["ann", "bob", "cleo", "dan", "eve", "fay", "gus", "hal"] {
        let home = answered_by(&by_metadata, |_, call| call.metadata("baggage.user", user)).await;
        assert_eq!(home.len(), 1, "{user} is at home at {home}");
        let own = |_, call: ShopCall| call.metadata("baggage.user", "zoe").hash_key(user);
        assert_eq!(answered_by(&by_metadata, own).await, home, "its own key comes first");
        assert_eq!(answered_by(&by_call, |_, call| call.hash_key(user)).await, home);
        homes.insert(home);
    }
    assert!(homes.len() > 1, "{homes:?}");
    let words = Settings::none().flag("selector", "consistent-hash").unwrap();
    let words = words.flag("hash_by", "call keys").unwrap();
    let by_words = net.connect().settings(words).await.expect("calls have keys");
    let ann = |_, call: ShopCall| call.hash_key("ann");
    let home = answered_by(&by_call, ann).await;
    assert_eq!(answered_by(&ShopClient::new(&by_words), ann).await, home);
    assert_eq!(answered_by(&by_call, |_, call| call).await, "a b c d", "without a key, to any");

    // A call made while another is served has its baggage.
    let own = by_metadata;
    let door = FrontServer::new(Door(own.clone()));
    let _front = net.serve("front", door).await.expect("it is fine");
    let front = FrontClient::new(&net.client());
    for user in ["ann", "bob"] {
        let home = own.context("key").hash_key(user).await.expect("it answers").node;
        for _ in 0..20 {
            let passed = front.home().metadata("baggage.user", user).await;
            assert_eq!(passed.expect("it answers"), home);
        }
    }
}

#[micro::service]
trait Front {
    /// Which node of the shop a call made here goes to.
    async fn home(&self) -> String;
}

struct Door(ShopClient);

impl Front for Door {
    async fn home(&self) -> String {
        self.0.context("key").await.expect("somebody answers").node
    }
}

/// What settings say of retries and throttling counts; what they leave out, code says.
#[tokio::test(start_paused = true)]
async fn settings_bound_retries_and_throttling() {
    let net = Net::new();
    let mut nodes = Vec::new();
    for id in ["a", "b", "c"] {
        let refuse = |_: Request, _: Next| async {
            Err(Status::new(Code::ResourceExhausted, "it is full").refused().into())
        };
        nodes.push(open(&net, id, |service| service.layer(layer::from_fn(refuse))).await);
    }
    let overloaded = async |flags: &[(&str, &str)]| {
        let mut settings = Settings::none();
        for (key, value) in flags {
            settings = settings.flag(key, *value).unwrap();
        }
        let client =
            net.connect().settings(settings).retry_budget(BudgetPolicy::new(1.0, 100)).await;
        let shop = ShopClient::new(&client.unwrap());
        let (mut attempts, mut unsent) = (0, 0);
        for _ in 0..100 {
            let Err(CallError::Rpc(error)) = shop.context("key").await else {
                panic!("it is full")
            };
            attempts = attempts.max(error.attempts());
            unsent += u32::from(error.attempts() == 0);
        }
        (attempts, unsent > 0)
    };
    assert_eq!(overloaded(&[]).await, (3, true));
    assert_eq!(overloaded(&[("throttle", "off")]).await, (3, false));
    assert_eq!(overloaded(&[("throttle", "off"), ("attempts", "2")]).await, (2, false));
    assert_eq!(overloaded(&[("throttle", "off"), ("retry_budget", "0%")]).await, (1, false));
}

/// A node that has too much to do says when to come back: the call goes elsewhere at once, and comes
/// back then when there is nobody else and time enough; else it fails with what it was told.
#[tokio::test(start_paused = true)]
async fn refused_calls_come_back_when_told() {
    let told = Duration::from_millis(300);
    let net = Net::new();
    let refused = Arc::new(AtomicU32::new(0));
    // Of its node, the first call is refused.
    let refuse_once = || {
        let (refused, is_first) = (refused.clone(), Arc::new(AtomicU32::new(0)));
        layer::from_fn(move |request: Request, next: Next| {
            let is_refused = is_first.fetch_add(1, Ordering::Relaxed) == 0;
            refused.fetch_add(u32::from(is_refused), Ordering::Relaxed);
            async move {
                let status = Status::new(Code::ResourceExhausted, "it is full");
                match is_refused {
                    true => Err(status.with_retry_after(told).refused().into()),
                    false => next.run(request).await,
                }
            }
        })
    };
    let _a = open(&net, "a", |service| service.layer(refuse_once())).await;
    let shop = ShopClient::new(&net.client());
    let hurried = shop.context("key").timeout(Duration::from_millis(299)).await;
    let Err(CallError::Rpc(error)) = hurried else { panic!("{hurried:?}") };
    assert_eq!((error.code(), error.retry_after()), (Code::ResourceExhausted, Some(told)));
    assert_eq!(error.attempts(), 1);

    let _b = open(&net, "b", |service| service.layer(refuse_once())).await;
    let begin = tokio::time::Instant::now();
    while refused.load(Ordering::Relaxed) < 2 {
        let seen = shop.context("key").await.expect("a answers, as b does later");
        assert_eq!(seen.node, "a");
    }
    assert_eq!(begin.elapsed(), Duration::ZERO, "another node is asked at once");

    let other = Net::new();
    let _c = open(&other, "c", |service| service.layer(refuse_once())).await;
    let shop = ShopClient::new(&other.client());
    let begin = tokio::time::Instant::now();
    assert_eq!(shop.context("key").await.expect("it comes back").node, "c");
    let waited = begin.elapsed();
    assert!((told..told * 3 / 2).contains(&waited), "{waited:?}");
}
