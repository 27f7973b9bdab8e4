//! The `micro` program: see, call, watch and measure services from a shell, through any registry.
//!
//! What it finds goes to standard output, what it has to say to standard error. It ends with
//! 0 when all is well, 1 for an application's error, 2 for wrong usage, 3 for what is not found,
//! 4 for a deadline that passed, 5 for a method that is not there, 6 for what cannot be reached.

mod bench;
mod call;
mod completions;
mod describe;
mod doctor;
mod duration;
mod failure;
mod fields;
mod gateway;
mod method;
mod new;
mod print;
mod services;
mod top;
mod types;
mod watch;
mod world;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use crate::world::World;

/// Sees, calls, watches and measures services, through any registry.
#[derive(Parser)]
#[command(name = "micro", version, after_help = EXIT_CODES)]
struct Program {
    #[command(flatten)]
    world: World,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the services that are registered
    Services(services::Services),
    /// Says what a service serves: methods, types, errors
    Describe(describe::Describe),
    /// Calls a method, with arguments in JSON or as flags: --name Ann
    Call(call::Call),
    /// Tells who joins, changes and leaves
    Watch(watch::Watch),
    /// Calls a method many times, and says how long that took
    Bench(bench::Bench),
    /// Shows services, nodes and methods with what they do at this moment
    Top(top::Top),
    /// Finds out what is wrong: with the registry, with this host, with a service, and what to do
    Doctor(doctor::Doctor),
    /// Puts HTTP/JSON in front of every service: calls, a page, OpenAPI
    Gateway(gateway::Gateway),
    /// Makes a workspace to begin with: a contract, a server with a test, a client
    New(new::New),
    /// Prints the script that completes commands, services and methods in a shell
    Completions(completions::Completions),
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 application error, 2 usage, 3 not found, 4 deadline, 5 unimplemented,
6 unavailable. NO_COLOR is heeded.";

fn main() -> ExitCode {
    completions::answer(Program::command);
    let arguments = fields::marked(std::env::args_os(), &Program::command());
    let program = Program::parse_from(arguments);
    // On a screen that is drawn, lines of others would stand anywhere.
    if !matches!(&program.command, Command::Top(top) if top.takes_screen()) {
        log();
    }
    match run(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Says on standard error what goes wrong underneath.
fn log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // What cannot be written there cannot be told there.
        .log_internal_errors(false)
        .with_ansi(print::is_colored(std::io::stderr().is_terminal()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
}

#[tokio::main]
async fn run(program: Program) -> Result<(), Failure> {
    let Program { world, command } = program;
    match command {
        Command::Services(command) => command.run(&world).await,
        Command::Describe(command) => command.run(&world).await,
        Command::Call(command) => command.run(&world).await,
        Command::Watch(command) => command.run(&world).await,
        Command::Bench(command) => command.run(&world).await,
        Command::Top(command) => command.run(&world).await,
        Command::Doctor(command) => command.run(&world).await,
        Command::Gateway(command) => command.run(&world).await,
        Command::New(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}
