//! Services that call one another in a row, whose last one is down: how often it is asked.

use micro::test::{Net, Node};
use micro::{BudgetPolicy, CallError};

use super::*;

#[micro::service]
trait Tier {
    /// Asks the next service, and fails if that fails.
    #[rpc(idempotent)]
    async fn ask(&self, cx: &Context) -> Result<(), micro::Error>;
}

/// What a service does when the next one fails, or is down itself.
#[derive(Clone)]
enum Does {
    /// Answers that it failed.
    TellsWhy(TierClient),
    /// Ends in the middle of its work, so that nobody knows how far it came.
    Breaks(TierClient),
    /// The same, calling the next one as if nobody had called itself.
    BreaksOnItsOwn(TierClient),
    /// Is down, and counts how often it is asked: at all, and by retries.
    IsDown(Arc<AtomicU32>, Arc<AtomicU32>),
}

impl Tier for Does {
    async fn ask(&self, cx: &Context) -> Result<(), micro::Error> {
        match self {
            Self::TellsWhy(next) => Ok(next.ask().await?),
            Self::Breaks(next) => next.ask().await.map_err(|error| panic!("{error}")),
            Self::BreaksOnItsOwn(next) => {
                let own = tokio::spawn(next.ask().into_future());
                own.await.expect("no panic").map_err(|error| panic!("{error}"))
            }
            Self::IsDown(asked, by_retries) => {
                asked.fetch_add(1, Ordering::Relaxed);
                by_retries.fetch_add(u32::from(cx.is_retry()), Ordering::Relaxed);
                panic!("it is down")
            }
        }
    }
}

/// Three tiers of three nodes each, the leaf among them, and their caller.
struct Row {
    _nodes: Vec<Node>,
    first: TierClient,
    asked: Arc<AtomicU32>,
    by_retries: Arc<AtomicU32>,
}

impl Row {
    async fn new(middle: fn(TierClient) -> Does) -> Self {
        Self::with(middle, BudgetPolicy::default()).await
    }

    async fn with(middle: fn(TierClient) -> Does, budget: BudgetPolicy) -> Self {
        let net = Net::new();
        let connect = || net.connect().retry_budget(budget).throttle(None).into_future();
        let (asked, by_retries) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let mut nodes = Vec::new();
        for name in ["front", "middle", "leaf"] {
            // One client for the nodes of a tier, as one process would have.
            let client = connect().await.expect("nothing is wrong with it");
            let does = match name {
                "front" => middle(TierClient::named(&client, "middle")),
                "middle" => middle(TierClient::named(&client, "leaf")),
                _ => Does::IsDown(asked.clone(), by_retries.clone()),
            };
            for _ in 0..3 {
                let service = TierServer::new(does.clone());
                nodes.push(net.serve(name, service).await.expect("nothing is wrong with it"));
            }
        }
        let first = connect().await.expect("nothing is wrong with it");
        let first = TierClient::named(&first, "front");
        Self { _nodes: nodes, first, asked, by_retries }
    }

    /// How often the leaf was asked for one call, and how often by retries.
    async fn ask(&self) -> (u32, u32) {
        let Err(CallError::Rpc(_)) = self.first.ask().await else { panic!("the leaf is down") };
        (self.asked.swap(0, Ordering::Relaxed), self.by_retries.swap(0, Ordering::Relaxed))
    }
}

/// Where services tell why they failed, those next to the leaf alone ask it again.
#[tokio::test(start_paused = true)]
async fn a_failure_that_is_told_is_not_repeated_above() {
    assert_eq!(Row::new(Does::TellsWhy).await.ask().await, (3, 2));
}

/// Where they break, so that each above asks again, a call that is a retry is not repeated below:
/// three services in a row ask the leaf seven times, not twenty-seven.
#[tokio::test(start_paused = true)]
async fn a_retry_is_not_multiplied() {
    assert_eq!(Row::new(Does::Breaks).await.ask().await, (7, 6));
    assert_eq!(Row::new(Does::BreaksOnItsOwn).await.ask().await, (27, 18));
}

/// Over many calls the budget bounds what a leaf that is down gets: a fifth more where services tell
/// why they failed, and where they break a fifth for each of them, which is a sum and no product.
#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_load_of_the_leaf() {
    const CALLS: u32 = 200;
    for (middle, most) in [(Does::TellsWhy as fn(_) -> _, 1.2), (Does::Breaks, 1.6)] {
        let row = Row::with(middle, BudgetPolicy::new(0.2, 0)).await;
        let mut asked = 0;
        for _ in 0..CALLS {
            asked += row.ask().await.0;
        }
        let load = f64::from(asked) / f64::from(CALLS);
        assert!((1.0..=most).contains(&load), "{load}");
    }
}
