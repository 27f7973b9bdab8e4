//! What callers notice when servers die and drain, and when their registry, etcd, goes away; with how
//! long the registry took to tell.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use futures::StreamExt;
use micro::registry::{NodeState, RemoveReason, Scope, Update, Watch};
use micro::{Client, Service, Settings};
use micro_bench::process;
use serde::Serialize;
use testbed::{Process, Scene, Signal, etcd};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Servers that are killed and drain, an etcd that is killed and halted, and what callers notice.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    drill: Drill,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves until it is told to stop.
    #[command(hide = true)]
    Serve,
}

#[derive(Args, Debug)]
struct Drill {
    /// How long etcd stays away, each time, in seconds.
    #[arg(long, default_value = "60", value_parser = process::seconds)]
    outage: Duration,
    /// File to write the rows to, as a JSON array.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One event, what was heard of it, and what callers noticed from then on until the next.
#[derive(Debug, Serialize)]
struct Row {
    event: &'static str,
    /// What the registry told, and how many seconds after the event.
    told: Vec<(&'static str, f64)>,
    calls: u64,
    failed: u64,
}

/// Says who answers.
#[micro::service]
trait Probe {
    /// The process that answers.
    #[rpc(idempotent)]
    async fn process(&self) -> u32;
}

struct Own;

impl Probe for Own {
    async fn process(&self) -> u32 {
        std::process::id()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Serve) => serve().await,
        None => drill(&arguments.drill).await,
    }
}

async fn serve() -> Result<()> {
    let service = Service::new().metadata(PROCESS, std::process::id().to_string());
    Ok(service.serve(ProbeServer::new(Own)).run().await?)
}

async fn drill(drill: &Drill) -> Result<()> {
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("writing {path:?}"));
    let json = drill.json.as_ref().map(create).transpose()?;
    let rows = Stage::set().await?.play(drill.outage).await?;
    println!("{:<24} {:>9} {:>7}  told after", "event", "calls", "failed");
    for Row { event, told, calls, failed } in &rows {
        let told: Vec<_> =
            told.iter().map(|(what, after)| format!("{what} {after:.2} s")).collect();
        println!("{event:<24} {calls:>9} {failed:>7}  {}", told.join(", "));
    }
    if let Some(file) = json {
        serde_json::to_writer_pretty(file, &rows)?;
    }
    let failed: u64 = rows.iter().map(|row| row.failed).sum();
    ensure!(failed == 0, "{failed} calls failed");
    Ok(())
}

/// One etcd, the servers registered there, their callers, and somebody who watches.
struct Stage {
    etcd: etcd::Server,
    scene: Scene,
    servers: Vec<Process>,
    watch: Watch,
    load: Load,
    /// Its watch ends with it.
    _client: Client,
}

impl Stage {
    async fn set() -> Result<Self> {
        let etcd = etcd::Server::start();
        let scene = Scene::over(format!("etcd://{}", etcd.address()));
        let settings = Settings::none().flag("registry", scene.url())?;
        let client = Client::connect().settings(settings).await?;
        let watch = client.registry().watch(Scope::Service("probe".into())).await?;
        let load = Load::start(&ProbeClient::new(&client));
        let mut stage = Self { etcd, scene, servers: vec![], watch, load, _client: client };
        for _ in 0..SERVERS {
            stage.add_server().await?;
        }
        Ok(stage)
    }

    async fn play(mut self, outage: Duration) -> Result<Vec<Row>> {
        // Connections and estimates of their own first.
        sleep(SETTLE).await;
        self.load.take();
        let mut rows = vec![];
        let victim = self.servers.remove(0);
        let start = Instant::now();
        victim.signal(Signal::KILL);
        self.leaves(RemoveReason::Expired).await?;
        let expired = start.elapsed();
        self.add_server().await?;
        rows.push(self.row("kill -9 of a server", vec![("expired", expired)]).await);

        let victim = self.servers.remove(0);
        let start = Instant::now();
        victim.signal(Signal::TERM);
        let is_draining = |update: &Update| match update {
            Update::Put(put) => put.node.state == NodeState::Draining,
            _ => false,
        };
        until(&mut self.watch, is_draining).await?;
        let draining = start.elapsed();
        self.leaves(RemoveReason::Deregistered).await?;
        let told = vec![("draining", draining), ("deregistered", start.elapsed())];
        self.add_server().await?;
        rows.push(self.row("SIGTERM to a server", told).await);

        let start = Instant::now();
        self.etcd.kill();
        self.is_stale().await?;
        let stale = ("stale", start.elapsed());
        sleep(outage.saturating_sub(start.elapsed())).await;
        rows.push(self.is_back("etcd killed, restarted", stale, etcd::Server::restart).await?);

        let start = Instant::now();
        self.etcd.pause();
        self.is_stale().await?;
        let stale = ("stale", start.elapsed());
        sleep(outage.saturating_sub(start.elapsed())).await;
        rows.push(self.is_back("etcd halted, resumed", stale, etcd::Server::resume).await?);
        Ok(rows)
    }

    async fn add_server(&mut self) -> Result<()> {
        let program = std::env::current_exe()?;
        let program = program.to_str().context("the path of this program is not UTF-8")?;
        let name = format!("server-{}", self.scene.directory().read_dir()?.count());
        let environment = [
            ("MICRO_REGISTRY", self.scene.url()),
            ("MICRO_REGISTER_TTL", TTL),
            ("MICRO_REGISTER_INTERVAL", INTERVAL),
        ];
        let environment = environment.map(|(name, value)| (name, value.as_ref()));
        let server = self.scene.run_with(program, &name, &["serve"], &environment);
        let id = server.id().to_string();
        let is_it = |update: &Update| match update {
            Update::Put(put) => put.metadata.get(PROCESS) == Some(&id),
            _ => false,
        };
        until(&mut self.watch, is_it).await.context("a server does not register")?;
        self.servers.push(server);
        Ok(())
    }

    async fn leaves(&mut self, expected: RemoveReason) -> Result<()> {
        let is_removal = |update: &Update| matches!(update, Update::Remove { reason, .. } if *reason == expected);
        until(&mut self.watch, is_removal).await.with_context(|| format!("{expected:?}"))
    }

    async fn is_stale(&mut self) -> Result<()> {
        until(&mut self.watch, |update| matches!(update, Update::Stale { .. })).await
    }

    /// Ends an outage; the row is of all that was called since it began.
    async fn is_back(
        &mut self,
        event: &'static str,
        stale: (&'static str, Duration),
        end: impl FnOnce(&etcd::Server),
    ) -> Result<Row> {
        let start = Instant::now();
        end(&self.etcd);
        until(&mut self.watch, |update| matches!(update, Update::Reset { .. })).await?;
        let told = vec![stale, ("reset, after its end,", start.elapsed())];
        Ok(self.row(event, told).await)
    }

    /// What happened since the last row, and a little longer.
    async fn row(&self, event: &'static str, told: Vec<(&'static str, Duration)>) -> Row {
        sleep(SETTLE).await;
        let (calls, failed) = self.load.take();
        eprintln!("{event}: {calls} calls, {failed} failed");
        let told = told.into_iter().map(|(what, after)| (what, after.as_secs_f64())).collect();
        Row { event, told, calls, failed }
    }
}

/// Callers that call again and again.
struct Load {
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    fn start(probe: &ProbeClient) -> Self {
        let counts = Arc::<Counts>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..CALLERS {
            tasks.spawn(call(probe.clone(), counts.clone()));
        }
        Self { counts, _tasks: tasks }
    }

    /// Calls and failed ones since this was last asked.
    fn take(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.counts.calls), take(&self.counts.failed))
    }
}

async fn call(probe: ProbeClient, counts: Arc<Counts>) {
    loop {
        let answer = probe.process().wait_for_ready(true).await;
        counts.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = answer {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            eprintln!("failed: {error}");
        }
        sleep(PAUSE).await;
    }
}

async fn until(watch: &mut Watch, found: impl Fn(&Update) -> bool) -> Result<()> {
    let wait = async {
        while let Some(update) = watch.next().await {
            if found(&update) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    timeout(PATIENCE, wait).await.context("nothing was told")?
}

const SERVERS: usize = 3;
const CALLERS: usize = 16;
/// Between the calls of a caller.
const PAUSE: Duration = Duration::from_millis(5);
/// After an event and before the next.
const SETTLE: Duration = Duration::from_secs(5);
const TTL: &str = "3s";
const INTERVAL: &str = "1s";
const PATIENCE: Duration = Duration::from_secs(60);
/// The label of a node that says which process it is.
const PROCESS: &str = "process";
