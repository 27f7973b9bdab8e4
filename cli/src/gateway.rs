//! `micro gateway`: HTTP/JSON in front of every service.

use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use http::header::HeaderName;
use micro::Signals;
use micro_gateway::{Access, Config, Error, serve};

use crate::failure::{End, Failure};
use crate::print;
use crate::world::World;
use crate::{completions, duration};

/// Puts HTTP/JSON in front of every service: POST /SERVICE/METHOD, a page, OpenAPI.
///
/// It ends with ctrl-c or SIGTERM, once the calls that run are answered; told twice, at once.
#[derive(Args, Debug)]
pub(crate) struct Gateway {
    /// Where to listen: an address, or :PORT of this host alone, with --remote of all addresses
    #[arg(short, long, value_name = "[HOST]:PORT", default_value = ":8080")]
    listen: Listen,
    /// Let other hosts reach it, which may call every service then
    #[arg(long)]
    remote: bool,
    /// Service that can be called and seen, once for each [default: all there are]
    #[arg(long = "service", value_name = "NAME")]
    #[arg(add = ArgValueCompleter::new(completions::services))]
    services: Vec<String>,
    /// Name with a dot by which callers know it, such as api.shop.example; once for each
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Origin whose pages may call (CORS), such as https://shop.example; once for each
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Header that goes along as metadata of its name, besides authorization and micro-meta-*; once
    /// for each
    #[arg(long = "forward", value_name = "HEADER")]
    forward: Vec<HeaderName>,
    /// File with a token in each line: who asks has to send one, as `authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Header that a proxy in front sets for whoever may ask; once for each value of the same header
    #[arg(long = "require-header", value_name = "HEADER=VALUE", conflicts_with = "token_file")]
    #[arg(value_parser = rule)]
    required: Vec<(HeaderName, String)>,
    /// How long calls may take that say nothing
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    /// How long calls may take, whatever they say
    #[arg(long, value_name = "DURATION", default_value = "3600s", value_parser = duration::parse)]
    max_timeout: Duration,
    /// Longest body in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4_161_536)]
    max_body: usize,
    /// Connections at once; more wait
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    max_connections: usize,
    /// How long a request may take to arrive, and nobody may read of an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    stall_timeout: Duration,
}

impl Gateway {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let config = self.config()?;
        let mut signals = Signals::listen()?;
        let client = world.client().await?;
        let registry = client.registry().clone();
        let gateway = serve(config, client).await.map_err(told)?;
        print::talk(&format!("{}\n", greeting(gateway.address(), registry.name())));
        let signal = signals.next().await;
        print::talk(&format!("{signal}: no more connections, calls that run are answered\n"));
        tokio::select! {
            () = gateway.shutdown() => Ok(()),
            signal = signals.next() => {
                let message = format!("{signal} again: calls that ran were given up");
                Err(Failure::new(End::Application, message))
            }
        }
    }

    fn config(self) -> Result<Config, Failure> {
        // It may grow, so it is no expression.
        let mut config = Config::default();
        config.access = self.access()?;
        config.listen = self.listen.address(self.remote);
        config.remote = self.remote;
        config.services = (!self.services.is_empty()).then(|| self.services.into_iter().collect());
        config.hosts = self.hosts;
        config.origins = self.origins;
        config.forward = self.forward;
        config.timeout = self.timeout;
        config.max_timeout = self.max_timeout;
        config.max_body = self.max_body;
        config.max_connections = self.max_connections;
        config.stall_timeout = self.stall_timeout;
        Ok(config)
    }

    fn access(&self) -> Result<Access, Failure> {
        if let Some(file) = &self.token_file {
            let read = std::fs::read_to_string(file);
            let text = read.map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
            let tokens = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let tokens: Vec<_> = tokens.map(str::to_owned).collect();
            return match tokens.is_empty() {
                true => Err(Failure::usage(format!("{}: there is no token", file.display()))),
                false => Ok(Access::Bearer(tokens)),
            };
        }
        let Some((name, _)) = self.required.first() else { return Ok(Access::Anybody) };
        match self.required.iter().find(|(other, _)| other != name) {
            Some((other, _)) => Err(Failure::usage(format!(
                "--require-header is for several values of one header, not for {name} and {other}"
            ))),
            None => {
                let values = self.required.iter().map(|(_, value)| value.clone()).collect();
                Ok(Access::Header { name: name.clone(), values })
            }
        }
    }
}

/// Where to listen, as the command line says it.
#[derive(Clone, Copy, Debug)]
enum Listen {
    /// On a port, at addresses that follow from who is to reach it.
    Port(u16),
    Address(SocketAddr),
}

impl Listen {
    fn address(self, is_remote: bool) -> SocketAddr {
        match (self, is_remote) {
            (Self::Port(port), true) => (Ipv4Addr::UNSPECIFIED, port).into(),
            (Self::Port(port), false) => (Ipv4Addr::LOCALHOST, port).into(),
            (Self::Address(address), _) => address,
        }
    }
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected :PORT or IP:PORT, such as :8080 or 127.0.0.1:8080";
        let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'));
        match port {
            Some(port) => port.parse().map(Self::Port).map_err(|_| EXPECTED),
            None => text.parse().map(Self::Address).map_err(|_| EXPECTED),
        }
    }
}

/// A header and a value that lets in.
fn rule(text: &str) -> Result<(HeaderName, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected HEADER=VALUE")?;
    let name = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    match value.trim() {
        "" => Err("expected HEADER=VALUE, with a value".to_owned()),
        value => Ok((name, value.to_owned())),
    }
}

/// Why it could not start, in the words of the command line.
fn told(error: Error) -> Failure {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    match error {
        Error::Invalid(invalid) if invalid.field() == "listen" => {
            Failure::usage(invalid.to_string()).and("other hosts reach it with --remote")
        }
        Error::Invalid(_) | Error::Listen { .. } => Failure::usage(format!("{error}{cause}")),
        Error::Registry(error) => error.into(),
        _ => Failure::new(End::Application, format!("{error}{cause}")),
    }
}

/// What there is, for whoever started it.
fn greeting(address: SocketAddr, registry: &str) -> String {
    // What means all addresses is none to look at.
    let host = match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    format!(
        "listening on {address}, in front of what is registered in the {registry} registry
  http://{host}/              services, nodes, methods, with a form for each
  http://{host}/docs          what can be called; /openapi.json for programs
  http://{host}/metrics       figures; /health/live and /health/ready
  curl -d '{{}}' http://{host}/SERVICE/METHOD"
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        gateway: Gateway,
    }

    fn config(flags: &[&str]) -> Result<Config, String> {
        let line = Line::try_parse_from([&["gateway"], flags].concat());
        let gateway = line.map_err(|error| error.to_string())?.gateway;
        gateway.config().map_err(|failure| failure.to_string())
    }

    /// What nobody says is as the library has it, and each flag arrives where it belongs.
    #[test]
    fn flags_are_the_configuration() {
        let unsaid = config(&[]).unwrap();
        assert_eq!(format!("{unsaid:?}"), format!("{:?}", Config::default()));
        let line = "--listen 10.0.0.1:80 --remote --service shop --service till --host a.example \
            --origin https://a.example --forward x-user --require-header x-role=clerk \
            --require-header X-Role=cook --timeout 1s --max-timeout 2s --max-body 2 --max-connections 3 \
            --stall-timeout 4s --require-header x-role=a=b";
        let said = config(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(said.check(), Ok(()));
        assert_eq!((said.listen, said.remote), (([10, 0, 0, 1], 80).into(), true));
        assert_eq!(said.services, Some(["shop", "till"].map(str::to_owned).into()));
        assert_eq!((&*said.hosts[0], &*said.origins[0]), ("a.example", "https://a.example"));
        assert_eq!(said.forward, ["x-user"]);
        let Access::Header { name, values } = &said.access else { panic!("{said:?}") };
        assert_eq!(
            (name.as_str(), &values[..]),
            ("x-role", &["clerk", "cook", "a=b"].map(str::to_owned)[..])
        );
        let times = [said.timeout, said.max_timeout, said.stall_timeout];
        assert_eq!(times, [1, 2, 4].map(Duration::from_secs));
        assert_eq!((said.max_body, said.max_connections), (2, 3));
    }

    /// A port alone is one of this host, until others are let in.
    #[test]
    fn a_port_alone() {
        for (flags, address) in [
            (&["-l", ":80"][..], "127.0.0.1:80"),
            (&["-l", "localhost:80"], "127.0.0.1:80"),
            (&["-l", ":80", "--remote"], "0.0.0.0:80"),
            (&["-l", "0.0.0.0:80"], "0.0.0.0:80"),
        ] {
            assert_eq!(config(flags).unwrap().listen.to_string(), address);
        }
        for wrong in ["", "8080", ":http", "shop.example:80", "127.0.0.1", ":70000"] {
            let error = config(&["-l", wrong]).unwrap_err();
            assert!(error.contains("expected :PORT or IP:PORT"), "{error}");
        }
    }

    /// Tokens are the lines of their file; a file without any, or none at all, opens nothing.
    #[test]
    fn tokens_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        let flags = ["--token-file", file.to_str().unwrap()];
        assert!(config(&flags).unwrap_err().contains("tokens: "));
        std::fs::write(&file, "\n \n").unwrap();
        assert!(config(&flags).unwrap_err().contains("there is no token"));
        std::fs::write(&file, "first\n\n second \n").unwrap();
        let Access::Bearer(tokens) = config(&flags).unwrap().access else { panic!() };
        assert_eq!(tokens, ["first", "second"]);
        let both = [&flags[..], &["--require-header", "x-role=clerk"]].concat();
        assert!(config(&both).unwrap_err().contains("cannot be used with"));
        let two = ["--require-header", "x-a=1", "--require-header", "x-b=2"];
        assert!(config(&two).unwrap_err().contains("one header"));
    }
}
