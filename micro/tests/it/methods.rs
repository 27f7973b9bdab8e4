//! What may be said of contracts and methods, and where contracts may be used.

use micro::registry::Registry;
use micro::{CallError, Code, Contract};

use super::*;

struct Plain;

/// Greets people,
/// in two lines.
#[micro::service(name = "greeter.v2")]
pub trait Described {
    /// Says hello.
    ///
    /// Twice, if asked to.
    #[rpc(idempotent, timeout = "200ms", name = "Hello.World")]
    #[doc = "And more."]
    async fn hello(&self, name: String) -> String;
    async fn undescribed(&self) -> u8;
}

impl Described for Plain {
    async fn hello(&self, name: String) -> String {
        match name.as_str() {
            "nobody" => std::future::pending().await,
            name => format!("Hi {name}"),
        }
    }
    async fn undescribed(&self) -> u8 {
        1
    }
}

/// Names, documentation and idempotence are told to the registry.
#[tokio::test(start_paused = true)]
async fn contracts_are_described() {
    let contract = Contract::from(DescribedServer::new(Plain));
    assert_eq!((contract.name(), contract.doc()), ("greeter.v2", "Greets people,\nin two lines."));
    let town = Town::default();
    let _service = town.serve(DescribedServer::new(Plain)).await;
    let services = town.registry.get("shop").await.unwrap();
    let [hello, undescribed] = services[0].endpoints.as_slice() else { panic!() };
    assert_eq!((&*hello.contract, &*hello.name), ("greeter.v2", "Hello.World"));
    assert_eq!(hello.doc, "Says hello.\n\nTwice, if asked to.\nAnd more.");
    assert!(hello.idempotent);
    assert_eq!((&*undescribed.name, &*undescribed.doc), ("undescribed", ""));
    assert!(!undescribed.idempotent);
}

/// A method is called by its name on the wire, and ends with its own timeout.
#[tokio::test(start_paused = true)]
async fn methods_have_names_and_timeouts() {
    let town = Town::default();
    let _service = town.serve(DescribedServer::new(Plain)).await;
    let client = DescribedClient::named(&town.client().await, "shop");
    assert_eq!(client.hello("Ann").await.unwrap(), "Hi Ann");
    let began = tokio::time::Instant::now();
    let Err(CallError::Rpc(error)) = client.hello("nobody").await else { panic!() };
    assert_eq!((error.code(), error.method()), (Code::DeadlineExceeded, Some("Hello.World")));
    // The clock is the test's own: it moves only to the next timer.
    assert!(began.elapsed() < Duration::from_secs(1), "the client's default is 10 s");
}

/// Methods that are configured out leave nothing behind, in the contract and in its mock.
#[micro::service(mock)]
pub trait Configured {
    #[cfg(not(test))]
    async fn gone(&self, value: NoSuchType) -> Result<NoSuchType, NoSuchError>;
    #[cfg(test)]
    async fn here(&self, value: u8) -> Result<u8, ShopError>;
    #[cfg(not(test))]
    #[rpc(name = "there")]
    async fn there_then(&self, cx: &Context) -> u8;
    #[cfg(test)]
    async fn there(&self, cx: &Context) -> u8;
}

/// A contract that is configured out leaves nothing behind.
#[cfg(not(test))]
#[micro::service(mock)]
pub trait Missing {
    async fn gone(&self, value: NoSuchType) -> NoSuchType;
}

impl Configured for Plain {
    async fn here(&self, value: u8) -> Result<u8, ShopError> {
        Ok(value)
    }
    async fn there(&self, _: &Context) -> u8 {
        2
    }
}

/// `#[cfg]` of a method applies to all that is made of it.
#[tokio::test(start_paused = true)]
async fn methods_can_be_configured_out() {
    let town = Town::default();
    let _service = town.serve(ConfiguredServer::new(Plain)).await;
    let client = ConfiguredClient::named(&town.client().await, "shop");
    assert_eq!(client.here(1).await.unwrap(), 1);
    assert_eq!(client.there().await.unwrap(), 2);
    assert_eq!(Contract::from(ConfiguredServer::new(Plain)).endpoints().len(), 2);
    assert_eq!(MockConfigured::new().on_there(|| 3).there_directly().await, 3);
}

impl MockConfigured {
    /// Calls it as a server does; a context is made by nobody else.
    async fn there_directly(self) -> u8 {
        let town = Town::default();
        let _service = town.serve(ConfiguredServer::new(self)).await;
        ConfiguredClient::named(&town.client().await, "shop").there().await.expect("it is served")
    }
}

/// The context is taken by any path.
#[micro::service]
pub trait Contextual {
    async fn short(&self, cx: &Context) -> bool;
    async fn long(&self, context: &::micro::Context, key: String) -> Option<String>;
    async fn unnamed(&self, _: &micro::Context) -> u8;
}

struct Reader<T>(T);

impl<T: Clone + Send + Sync + Into<u8> + 'static> Contextual for Reader<T> {
    async fn short(&self, cx: &Context) -> bool {
        cx.deadline().is_some()
    }
    async fn long(&self, context: &Context, key: String) -> Option<String> {
        context.metadata().get(&key).map(str::to_owned)
    }
    async fn unnamed(&self, _: &Context) -> u8 {
        self.0.clone().into()
    }
}

/// Callers do not pass the context; an implementation may be generic.
#[tokio::test(start_paused = true)]
async fn contexts_and_generic_implementations() {
    let town = Town::default();
    let _service = town.serve(ContextualServer::new(Reader(7_u8))).await;
    let client = ContextualClient::named(&town.client().await, "shop");
    assert!(client.short().await.unwrap());
    let call = client.long("tenant").metadata("tenant", "acme");
    assert_eq!(call.await.unwrap().as_deref(), Some("acme"));
    assert_eq!(client.unnamed().await.unwrap(), 7);
}

/// A contract is a trait like others: a bound of generic code, with futures that other threads run.
#[tokio::test]
async fn contracts_are_bounds() {
    async fn twice(described: impl Described) -> u8 {
        let described = Arc::new(described);
        let shared = described.clone();
        let spawned = tokio::spawn(async move { shared.undescribed().await });
        described.undescribed().await + spawned.await.unwrap()
    }
    async fn named<D: Described>(described: &D) -> String {
        described.hello("Ann".to_owned()).await
    }
    assert_eq!(twice(Plain).await, 2);
    assert_eq!(named(&Plain).await, "Hi Ann");
}

/// One implementation may serve several contracts of a service; the same contract twice is an error
/// when the service starts.
#[tokio::test(start_paused = true)]
async fn contracts_share_a_service() {
    let town = Town::default();
    let service =
        town.service("a").serve(ConfiguredServer::new(Plain)).serve(DescribedServer::new(Plain));
    let _service = registered(service).await;
    let client = town.client().await;
    assert_eq!(ConfiguredClient::named(&client, "shop").here(1).await.unwrap(), 1);
    assert_eq!(DescribedClient::named(&client, "shop").undescribed().await.unwrap(), 1);
    let twice =
        town.service("b").serve(ConfiguredServer::new(Plain)).serve(ConfiguredServer::new(Plain));
    let error = twice.start().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("`configured`"), "{error}");
}
