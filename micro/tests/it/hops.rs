//! What travels from call to call: deadline, trace, baggage, criticality; and errors on their way
//! back.

use micro::registry::{Node, Registration, Registry};
use micro::rpc::Criticality;
use micro::{CallError, Code};

use super::*;

/// What a leaf saw of its context.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Leaf {
    tenant: Option<String>,
    note: Option<String>,
    criticality: String,
    trace: String,
    has_deadline: bool,
}

/// How a middle service calls the leaf.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum How {
    Directly,
    Spawned,
    SpawnedInScope,
    SpawnedWithContext,
}

#[micro::service]
trait Hop {
    /// What the context says here.
    async fn look(&self, cx: &Context) -> Leaf;
    /// What it says at the next service.
    async fn pass(&self, cx: &Context, how: How) -> Result<Leaf, micro::Error>;
    /// Fails with an error of the framework's type, or anyhow's.
    async fn refuse(&self) -> Result<(), micro::Error>;
    async fn fall_over(&self) -> Result<(), anyhow::Error>;
    /// Lets the next service fail.
    async fn pass_failure(&self, kind: String) -> Result<(), micro::Error>;
    /// Sends metadata along with an answer.
    async fn answer(&self, cx: &Context, fail: bool) -> Result<u32, ShopError>;
}

struct Middle(HopClient);

impl Hop for Middle {
    async fn look(&self, cx: &Context) -> Leaf {
        Leaf {
            tenant: cx.metadata().get("baggage.tenant").map(str::to_owned),
            note: cx.metadata().get("note").map(str::to_owned),
            criticality: format!("{:?}", cx.criticality()),
            trace: cx.trace().map(|trace| trace.trace_id().to_string()).unwrap_or_default(),
            has_deadline: cx
                .deadline()
                .is_some_and(|at| at < tokio::time::Instant::now() + Duration::from_secs(5)),
        }
    }

    async fn pass(&self, cx: &Context, how: How) -> Result<Leaf, micro::Error> {
        let next = self.0.clone();
        let look = |next: HopClient| async move { next.look().await };
        let leaf = match how {
            How::Directly => next.look().await?,
            How::Spawned => tokio::spawn(look(next)).await.expect("no panic")?,
            How::SpawnedInScope => tokio::spawn(cx.scope(look(next))).await.expect("no panic")?,
            How::SpawnedWithContext => {
                let cx = cx.clone();
                let look = async move { next.look().context(&cx).await };
                tokio::spawn(look).await.expect("no panic")?
            }
        };
        Ok(leaf)
    }

    async fn refuse(&self) -> Result<(), micro::Error> {
        let cause = std::io::Error::other("the password is swordfish");
        Err(micro::Error::new(Code::FailedPrecondition, "not today").with_source(cause))
    }

    async fn fall_over(&self) -> Result<(), anyhow::Error> {
        anyhow::bail!("the password is swordfish")
    }

    async fn pass_failure(&self, kind: String) -> Result<(), micro::Error> {
        match kind.as_str() {
            "refuse" => self.0.refuse().await?,
            "app" => drop(self.0.answer(true).await?),
            _ => self.0.fall_over().retry(micro::Retry::none()).await?,
        }
        Ok(())
    }

    async fn answer(&self, cx: &Context, fail: bool) -> Result<u32, ShopError> {
        cx.reply_metadata("served-by", "middle").expect("a good key");
        if fail { Err(ShopError::Closed) } else { Ok(7) }
    }
}

/// Two services in a row: `middle` calls `leaf`.
async fn two(town: &Town) -> (Vec<RunningService>, HopClient) {
    let client = town.client().await;
    let serve = |id: &'static str, next: &'static str| {
        let middle = Middle(HopClient::named(&client, next));
        town.service(id).name(id).serve(HopServer::new(middle))
    };
    let nodes =
        vec![registered(serve("middle", "leaf")).await, registered(serve("leaf", "nobody")).await];
    (nodes, HopClient::named(&client, "middle"))
}

/// Baggage goes all the way, other metadata one hop; criticality, trace and deadline are
/// inherited, on the handler's task and wherever the context is taken along to.
#[tokio::test]
async fn what_travels_on() {
    let town = Town::default();
    let (_nodes, middle) = two(&town).await;
    for how in [How::Directly, How::SpawnedInScope, How::SpawnedWithContext, How::Spawned] {
        let call = middle.pass(how).metadata("baggage.tenant", "acme").metadata("note", "x");
        let call = call.criticality(Criticality::Sheddable).timeout(Duration::from_secs(3));
        let leaf = call.await.expect("it is passed on");
        assert_eq!(leaf.note, None);
        let inherits = !matches!(how, How::Spawned);
        assert_eq!(leaf.tenant.as_deref(), inherits.then_some("acme"), "{how:?}");
        assert_eq!(leaf.criticality == "Sheddable", inherits, "{how:?} {leaf:?}");
        assert_eq!(leaf.has_deadline, inherits, "{how:?} {leaf:?}");
        assert_eq!(leaf.trace.len(), 32);
    }
}

/// What a caller sets itself stands above what it inherits.
#[tokio::test]
async fn own_options_stand_above_inherited_ones() {
    let town = Town::default();
    let (_nodes, middle) = two(&town).await;
    let call = middle.look().metadata("baggage.tenant", "acme");
    let leaf = call.criticality(Criticality::CriticalPlus).await.expect("it looks");
    assert_eq!((leaf.tenant.as_deref(), &*leaf.criticality), (Some("acme"), "CriticalPlus"));
}

/// A method may send metadata beside its value and beside its error.
#[tokio::test]
async fn answers_carry_metadata() {
    let town = Town::default();
    let (_nodes, middle) = two(&town).await;
    let reply = middle.answer(false).reply().await.expect("it answers");
    assert_eq!((reply.value, reply.metadata.get("served-by")), (7, Some("middle")));
    let error = middle.answer(true).reply().await.expect_err("it fails");
    assert!(matches!(error, CallError::App(ShopError::Closed)), "{error}");
}

/// `micro::Error` gives its code and words to callers, anyhow's error neither; causes stay here.
#[tokio::test]
async fn untyped_errors() {
    let town = Town::default();
    let (_nodes, middle) = two(&town).await;
    let CallError::Rpc(error) = middle.refuse().await.expect_err("it refuses") else {
        panic!("nothing was encoded")
    };
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.to_string().contains("not today"), "{error}");
    assert!(!format!("{error:?}").contains("swordfish"), "{error:?}");
    let CallError::Rpc(error) = middle.fall_over().await.expect_err("it falls over") else {
        panic!("nothing was encoded")
    };
    assert_eq!(error.code(), Code::Internal);
    assert!(!format!("{error:?}").contains("swordfish"), "{error:?}");
}

/// A failure at the leaf is told to the first caller: which call, on which node, though not where
/// that is, with the trace both have.
#[tokio::test]
async fn failures_name_the_leaf() {
    let town = Town::default();
    let (mut nodes, middle) = two(&town).await;
    let failure = |kind: &'static str| {
        let call = middle.pass_failure(kind);
        async move {
            match call.await.expect_err("the leaf fails") {
                CallError::Rpc(error) => error,
                CallError::App(error) => panic!("nothing was encoded, and yet: {error}"),
            }
        }
    };
    let error = failure("refuse").await;
    assert_eq!(error.code(), Code::FailedPrecondition);
    let leaf = &nodes[1].registration().node;
    let trace = error.trace_id().expect("every call has one").to_string();
    let text = error.to_string();
    for part in ["hop/refuse of leaf", "wait", &leaf.id, &trace, "not today"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(!text.contains(&leaf.address), "where it is was told: {text}");
    assert_eq!(text.matches(&trace).count(), 2, "both calls belong to one trace: {text}");
    let error = failure("app").await;
    assert_eq!(error.code(), ShopError::Closed.code());
    assert!(error.to_string().contains("closed"), "{error}");

    nodes.remove(1).shutdown().await;
    let text = failure("gone").await.to_string();
    assert!(text.contains("hop/fall_over of leaf: "), "{text}");
}

/// Where nodes are that could not be reached, or were tried before, is no word of a method's error,
/// whether the method or a layer around it made the call.
#[tokio::test(start_paused = true)]
async fn addresses_stay_here() {
    let town = Town::default();
    let client = town.client().await;
    let gone = HopClient::named(&client, "leaf");
    let asking = gone.clone();
    let layer = micro::layer::from_fn(move |request, next: micro::layer::Next| {
        let asking = asking.clone();
        async move {
            asking.look().await.map_err(micro::Error::from)?;
            next.run(request).await
        }
    });
    let middle = || HopServer::new(Middle(gone.clone()));
    let _nodes = [
        registered(town.service("plain").name("plain").serve(middle())).await,
        registered(town.service("layered").name("layered").layer(layer).serve(middle())).await,
    ];
    for id in ["one", "other"] {
        let node = Node::new(id, format!("memory:cellar-{id}"));
        town.registry.register(&Registration::new("leaf", "1.0.0", node), TTL).await.unwrap();
    }
    for name in ["plain", "layered"] {
        let error = HopClient::named(&client, name).pass(How::Directly).await.unwrap_err();
        let text = error.to_string();
        for part in ["hop/look of leaf: unavailable (connect, node o", " attempts", "be reached"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("cellar"), "{name}: {text}");
    }
}

const TTL: Duration = Duration::from_secs(3600);
