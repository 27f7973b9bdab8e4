//! Compares a service behind the gateway with the same service behind nginx, and with its own port.
//!
//! One process each for the service, the gateway, nginx and the load, which is wrk's. The three ways
//! take turns, so that what else the machine does falls on all of them. `apt-get install nginx-light
//! wrk` brings what it needs.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use micro::{Client, Service, Settings};
use micro_bench::child::{PATIENCE, Process};
use micro_bench::rows::{Output, Row, Target, table};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// Compare the gateway with nginx in front of the same service.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value = "5")]
    seconds: u64,
    /// How often each way is measured; the report has medians.
    #[arg(long, default_value = "5")]
    repetitions: usize,
    /// Connections of the load, which are kept.
    #[arg(long, default_value = "64")]
    connections: usize,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the other processes do.
#[derive(Debug, Subcommand)]
enum Part {
    /// Serves greetings, and prints where.
    #[command(hide = true)]
    Service { registry: String },
    /// Stands in front of them, and prints where.
    #[command(hide = true)]
    Gateway { registry: String },
}

/// What is called.
#[micro::service]
trait Greeter {
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> String;
}

struct English;

impl Greeter for English {
    async fn hello(&self, name: String) -> String {
        format!("Hello, {name}!")
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.part {
        None => compare(arguments).await,
        Some(Part::Service { registry }) => {
            let service = Service::new().name("greeter").address("127.0.0.1:0");
            let service = service.settings(settings(registry)?);
            let running = service.serve(GreeterServer::new(English)).start().await?;
            println!("{}", running.registration().node.address);
            wait_for_end();
            Ok(())
        }
        Some(Part::Gateway { registry }) => {
            let client = Client::connect().settings(settings(registry)?).await?;
            let mut config = micro_gateway::Config::default();
            config.listen.set_port(0);
            let gateway = micro_gateway::serve(config, client).await?;
            println!("{}", gateway.address());
            wait_for_end();
            Ok(())
        }
    }
}

fn settings(registry: &str) -> Result<Settings> {
    Ok(Settings::none().flag("registry", registry.to_owned())?)
}

/// Until nobody wants anything any more.
fn wait_for_end() {
    let _ = std::io::stdin().read(&mut [0]);
}

async fn compare(arguments: Arguments) -> Result<()> {
    let output = arguments.output.open()?;
    let directory = tempfile::tempdir()?;
    let registry = format!("local:{}", directory.path().join("registry").display());
    let mut service = Process::start(["service", &registry])?;
    let own: SocketAddr = service.read(PATIENCE).await?;
    let mut gateway = Process::start(["gateway", &registry])?;
    let front: SocketAddr = gateway.read(PATIENCE).await?;
    let nginx = Nginx::start(directory.path(), own)?;
    let script = directory.path().join("post.lua");
    fs::write(&script, SCRIPT)?;

    let ways = [("service", own), ("nginx", nginx.address), ("gateway", front)];
    for (_, address) in ways {
        answers(address).await?;
    }
    let mut measured = ways.map(|_| Vec::new());
    for round in 0..=arguments.repetitions {
        for (measured, (way, address)) in measured.iter_mut().zip(ways) {
            let load = load(&arguments, &script, address).with_context(|| format!("over {way}"))?;
            // The first round warms up.
            if round > 0 {
                measured.push(load);
            }
        }
    }
    let rows = rows(&ways.map(|way| way.0), &measured);
    println!("{}", table(&rows));
    output.write(&rows)
}

const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.body = '{"name":"Ann"}'
wrk.headers["content-type"] = "application/json"
"#;

/// Waits until somebody answers there.
async fn answers(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_answered(address)? {
        ensure!(Instant::now() < end, "nobody answers at {address}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn is_answered(address: SocketAddr) -> Result<bool> {
    let url = url(address);
    let curl = Command::new("curl").args(["-sf", "-d", r#"{"name":"Ann"}"#, &url]).output();
    Ok(curl.context("curl does not start")?.status.success())
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/greeter/hello")
}

/// What a load came to.
#[derive(Clone, Copy, Debug)]
struct Load {
    requests_per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn load(arguments: &Arguments, script: &Path, address: SocketAddr) -> Result<Load> {
    let output = Command::new("wrk")
        .args(["-t2", "--latency"])
        .arg(format!("-c{}", arguments.connections))
        .arg(format!("-d{}s", arguments.seconds))
        .arg("-s")
        .arg(script)
        .arg(url(address))
        .output()
        .context("wrk does not start: apt-get install wrk")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(!text.contains("Non-2xx"), "not every request was answered with 200:\n{text}");
    text.parse().with_context(|| format!("wrk says:\n{text}"))
}

impl FromStr for Load {
    type Err = anyhow::Error;

    /// Reads what wrk prints.
    fn from_str(text: &str) -> Result<Self> {
        let after = |word: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(word));
            line.map(str::trim).with_context(|| format!("no {word}"))
        };
        Ok(Self {
            requests_per_second: after("Requests/sec:")?.parse()?,
            p50: duration(after("50%")?)?,
            p99: duration(after("99%")?)?,
        })
    }
}

/// `1.23ms`, as wrk writes it.
fn duration(text: &str) -> Result<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).context("no unit")?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => anyhow::bail!("{unit} is no unit"),
    };
    Ok(Duration::from_secs_f64(number.parse::<f64>()? * seconds))
}

/// The figures of each way, and the gateway's beside nginx's of the same round.
fn rows(ways: &[&str], measured: &[Vec<Load>]) -> Vec<Row> {
    let least = Target::Least(0.0);
    let most = Target::Most(f64::INFINITY);
    let mut rows = Vec::new();
    for (way, loads) in ways.iter().zip(measured) {
        let all = |of: fn(&Load) -> f64| loads.iter().map(of).collect::<Vec<_>>();
        rows.push(Row::new("gw", "requests/s", way, least, all(|load| load.requests_per_second)));
        rows.push(Row::new("gw", "p50, ms", way, most, all(|load| load.p50.as_secs_f64() * 1e3)));
        rows.push(Row::new("gw", "p99, ms", way, most, all(|load| load.p99.as_secs_f64() * 1e3)));
    }
    let beside = measured[2].iter().zip(&measured[1]);
    let ratios =
        beside.map(|(gateway, nginx)| gateway.requests_per_second / nginx.requests_per_second);
    let goal = Target::Least(0.5);
    rows.push(Row::new("gw", "requests/s, × nginx", "gateway", goal, ratios.collect()));
    rows
}

/// nginx in front of the service, one worker for each core; it ends with this.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(directory: &Path, service: SocketAddr) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = directory.join("nginx.conf");
        let configuration = CONFIGURATION
            .replace("{listen}", &address.to_string())
            .replace("{service}", &service.to_string())
            .replace("{directory}", &directory.display().to_string());
        fs::write(&file, configuration)?;
        let child = Command::new("nginx")
            .args([Path::new("-p"), directory, Path::new("-c"), &file])
            .stderr(Stdio::null())
            .spawn()
            .context("nginx does not start: apt-get install nginx-light")?;
        Ok(Self { child, address })
    }
}

impl Drop for Nginx {
    /// Its workers outlive a master that is killed, and not one that is asked to end.
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

const CONFIGURATION: &str = "
daemon off;
worker_processes auto;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream service {
        server {service};
        keepalive 64;
        keepalive_requests 1000000000;
    }
    server {
        listen {listen};
        keepalive_requests 1000000000;
        location / {
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }
    }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    /// What wrk prints is read in each of its units.
    #[test]
    fn what_wrk_says() {
        let text = "  Latency Distribution\n     50%  812.00us\n     99%    3.55ms\nRequests/sec:  81234.50\n";
        let load: Load = text.parse().expect("it is what wrk prints");
        assert_eq!(load.requests_per_second, 81_234.5);
        assert_eq!(
            (load.p50, load.p99),
            (Duration::from_micros(812), Duration::from_micros(3_550))
        );
        assert!("Requests/sec: many".parse::<Load>().is_err());
    }
}
