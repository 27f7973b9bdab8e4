//! `micro call`: one call, by name.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use micro::rpc::{Metadata, TraceId};
use micro::{Code, Error, Stopwatch, Times, dynamic};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::failure::{End, Failure};
use crate::method::{Found, MethodName, Which};
use crate::print;
use crate::world::World;
use crate::{completions, duration, fields};

/// Calls a method, with arguments in JSON or as flags.
#[derive(Args, Debug)]
#[command(after_help = FIELDS)]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) what: What,
    /// Say on standard error who answered, in how many attempts, and where the time went
    #[arg(short, long)]
    verbose: bool,
    /// How long the call may take, retries included
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    /// Wait for a node to appear when none is registered
    #[arg(long)]
    wait: bool,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

const FIELDS: &str = "\
Other flags are arguments of the method, read as its schema says: --name Ann, --count 3, and
--tag a --tag b for a list. One that is named as a flag above is --field NAME=VALUE.";

/// What is called, and with what.
#[derive(Args, Clone, Debug)]
pub(crate) struct What {
    /// Method to call: SERVICE.METHOD, or SERVICE/CONTRACT.METHOD
    #[arg(value_name = "METHOD", add = ArgValueCompleter::new(completions::methods))]
    pub(crate) method: MethodName,
    /// Arguments in JSON, by name: {"name":"Ann"}; @FILE for those of a file, - for standard input
    #[arg(value_name = "ARGUMENTS", conflicts_with = "field")]
    arguments: Option<String>,
    /// An argument by name, read as the method's schema says
    #[arg(long, value_name = "NAME=VALUE", value_parser = fields::parse)]
    field: Vec<(String, String)>,
    #[command(flatten)]
    which: Which,
    /// Metadata to send along
    #[arg(long, value_name = "KEY=VALUE", value_parser = fields::parse)]
    metadata: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The answer, in JSON
    #[default]
    Answer,
    /// All that is known of the call, in JSON
    Json,
}

/// A call that can be made, again and again.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) found: Found,
    /// As they were written.
    arguments: Box<RawValue>,
    metadata: Vec<(String, String)>,
}

impl What {
    /// Finds the method, in no more time than a call has, and reads its arguments.
    pub(crate) async fn prepare(
        self,
        world: &World,
        timeout: Duration,
    ) -> Result<Prepared, Failure> {
        let given = self.arguments.as_deref().map(read).transpose()?;
        let finds = self.method.find(world, &self.which, !self.field.is_empty());
        let found = tokio::time::timeout(timeout, finds).await.unwrap_or_else(|_| {
            let message = format!("method {} was not found in time", self.method);
            Err(Failure::new(End::Deadline, message))
        })?;
        let pairs = self.field.iter().map(|(name, text)| (&**name, &**text));
        let arguments = match given {
            Some(arguments) => arguments,
            None => to_raw_value(&dynamic::arguments(&found.endpoint, pairs)?)
                .expect("a map of JSON values is JSON"),
        };
        Ok(Prepared { found, arguments, metadata: self.metadata })
    }
}

impl Prepared {
    /// The call, as often as it is wanted.
    pub(crate) fn call(&self, timeout: Duration) -> micro::Call<Value, Error> {
        let Found { client, service, endpoint } = &self.found;
        let call =
            client.call_by_name(service, &endpoint.contract, &endpoint.name, &self.arguments);
        let call = call.idempotent(endpoint.idempotent).timeout(timeout);
        self.metadata.iter().fold(call, |call, (key, value)| call.metadata(key, value))
    }
}

impl Call {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let Self { what, verbose, timeout, wait, output } = self;
        if wait {
            what.method.appears(world, &what.which, timeout).await?;
        }
        let prepared = what.prepare(world, timeout).await?;
        let stopwatch = Stopwatch::default();
        let call = prepared.call(timeout).wait_for_ready(wait).stopwatch(&stopwatch);
        let outcome = Outcome::of(call.reply().await.map_err(Error::from), stopwatch.times());
        let printed = match (output, &outcome.result) {
            (Format::Json, _) => print::json(&outcome.record()),
            (Format::Answer, Ok(answer)) => print::json(answer),
            (Format::Answer, Err(_)) => Ok(()),
        };
        if verbose {
            print::talk(&outcome.told());
        }
        // How the call ended says more than that nobody reads the answer.
        outcome.result.map_err(|error| failed(error, &prepared)).and(printed)
    }
}

/// Says what there is when the method is not.
fn failed(error: Error, prepared: &Prepared) -> Failure {
    let (code, failure) = (error.code(), Failure::from(error));
    match code {
        Code::Unimplemented if failure.end() == End::Unimplemented => {
            failure.and(format!("`micro describe {}` has what there is", prepared.found.service))
        }
        _ => failure,
    }
}

/// How a call ended, with what is known of its way.
struct Outcome {
    result: Result<Value, Error>,
    node: Option<(String, String)>,
    attempts: u32,
    trace: Option<TraceId>,
    metadata: Metadata,
    times: Times,
}

impl Outcome {
    fn of(answer: Result<micro::Reply<Value>, Error>, times: Times) -> Self {
        match answer {
            Ok(reply) => Self {
                node: reply.node.map(|node| (node.node.id.clone(), node.node.address.clone())),
                attempts: reply.attempts,
                trace: reply.trace,
                metadata: reply.metadata,
                result: Ok(reply.value),
                times,
            },
            Err(error) => Self {
                node: error.node().map(|(id, address)| (id.to_owned(), address.to_owned())),
                attempts: error.attempts(),
                trace: error.trace_id(),
                metadata: error.metadata().clone(),
                result: Err(error),
                times,
            },
        }
    }

    /// For people, a line each.
    fn told(&self) -> String {
        let Times { resolve, retry, connect, wait, total, .. } = self.times;
        let mut lines = Vec::new();
        if let Some((id, address)) = &self.node {
            lines.push(("node", format!("{id} at {address}")));
        }
        lines.push(("attempts", self.attempts.to_string()));
        lines.extend(self.trace.as_ref().map(|trace| ("trace", trace.to_string())));
        lines.extend(
            self.metadata.iter().map(|(key, value)| ("metadata", format!("{key}={value}"))),
        );
        let phases = [("resolve", resolve), ("retry", retry), ("connect", connect), ("wait", wait)];
        let phases = phases.into_iter().filter(|(name, time)| *name != "retry" || !time.is_zero());
        lines.extend(
            phases.chain([("total", total)]).map(|(name, time)| (name, duration::text(time))),
        );
        let told = |(name, value): (_, String)| format!("{name:9} {}\n", print::plain(&value));
        lines.into_iter().map(told).collect()
    }

    /// In the shape that `-o json` promises.
    fn record(&self) -> Record<'_> {
        let Times { resolve, retry, connect, wait, total, .. } = self.times;
        let millis = |time: Duration| print::rounded(time.as_secs_f64() * 1e3);
        let node = self.node.as_ref().map(|(id, address)| Node { id, address });
        let error = self.result.as_ref().err().map(|error| ErrorRecord {
            code: error.code().to_string(),
            message: error.message(),
            details: error.details(),
            phase: error.phase().to_string(),
        });
        Record {
            answer: self.result.as_ref().ok(),
            error,
            node,
            attempts: self.attempts,
            trace: self.trace.as_ref().map(TraceId::to_string),
            metadata: self.metadata.iter().collect(),
            times_ms: TimesRecord {
                resolve: millis(resolve),
                retry: millis(retry),
                connect: millis(connect),
                wait: millis(wait),
                total: millis(total),
            },
        }
    }
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorRecord<'a>>,
    node: Option<Node<'a>>,
    attempts: u32,
    trace: Option<String>,
    metadata: BTreeMap<&'a str, &'a str>,
    times_ms: TimesRecord,
}

/// As services answer errors over HTTP, with how far the call got.
#[derive(Serialize)]
struct ErrorRecord<'a> {
    code: String,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
    phase: String,
}

#[derive(Serialize)]
struct Node<'a> {
    id: &'a str,
    address: &'a str,
}

#[derive(Serialize)]
struct TimesRecord {
    resolve: f64,
    retry: f64,
    connect: f64,
    wait: f64,
    total: f64,
}

/// Arguments as they are given: themselves, a file or standard input.
fn read(given: &str) -> Result<Box<RawValue>, Failure> {
    let (text, from) = match given.strip_prefix('@') {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let unread = |error| Failure::usage(format!("file {path:?} cannot be read: {error}"));
            (text.map_err(unread)?, format!("file {path:?}"))
        }
        None if given == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            let unread = |error| Failure::usage(format!("standard input cannot be read: {error}"));
            read.map_err(unread)?;
            (text, "standard input".to_owned())
        }
        None => (given.to_owned(), "the command line".to_owned()),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("the arguments from {from} are not JSON: {error}"))
            .and("expected a map by name, such as {\"name\":\"Ann\"}")
    })
}
