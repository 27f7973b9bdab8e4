//! `micro completions`, and what shells ask for while somebody types.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{self, EnvCompleter, Fish, Shells, Zsh};
use micro::Client;
use micro::dynamic::Description;

use crate::failure::Failure;
use crate::print;
use crate::world::{self, World};

/// Prints the script that completes commands, services and methods in a shell.
#[derive(Args, Debug)]
#[command(after_help = INSTALL)]
pub(crate) struct Completions {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

const INSTALL: &str = "\
bash: echo 'source <(micro completions bash)' >> ~/.bashrc
zsh:  echo 'source <(micro completions zsh)' >> ~/.zshrc
fish: micro completions fish > ~/.config/fish/completions/micro.fish";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What a script sets when it asks what could come next.
const VARIABLE: &str = "MICRO_COMPLETE";

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "micro", "micro", "micro", &mut script)?;
        print::text(&String::from_utf8_lossy(&script))
    }
}

/// Answers a script that asks what could come next, and ends; does nothing for a person.
pub(crate) fn answer(program: fn() -> Command) {
    CompleteEnv::with_factory(program).var(VARIABLE).shells(SHELLS).complete();
}

const SHELLS: Shells<'static> = Shells(&[&Bash, &Zsh, &Fish]);

/// Bash with a script of our own: that of the library takes its words as they are, and bash breaks
/// the URLs of registries.
struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        env::Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        env::Bash.is(name)
    }

    fn write_registration(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: &str,
        script: &mut dyn Write,
    ) -> io::Result<()> {
        script.write_all(include_bytes!("completions.bash"))
    }

    fn write_complete(
        &self,
        program: &mut Command,
        line: Vec<OsString>,
        directory: Option<&Path>,
        candidates: &mut dyn Write,
    ) -> io::Result<()> {
        env::Bash.write_complete(program, line, directory, candidates)
    }
}

/// The services whose names begin so.
pub(crate) fn services(begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let services = looked_up(async |client| client.registry().list().await.unwrap_or_default());
    let names = services.into_iter().map(|service| service.name);
    names.filter(|name| name.starts_with(&*begun)).map(candidate).collect()
}

/// The methods that begin so, in each of their forms; while the service is not complete, services.
pub(crate) fn methods(begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy().into_owned();
    looked_up(async |client| {
        let mut candidates = Vec::new();
        for version in world::all(client.registry()).await.unwrap_or_default() {
            let description = Description::of(&version);
            for method in description.iter().flat_map(Description::methods) {
                let service = &version.name;
                let name = match begun.contains('/') {
                    true => format!("{service}/{}.{}", method.contract, method.name),
                    false => format!("{service}.{}", method.name),
                };
                if name.starts_with(&begun) {
                    let help = method.doc.lines().next().map(|line| print::plain(line).into());
                    candidates.push(candidate(name).help(help));
                }
            }
        }
        candidates.sort();
        candidates.dedup_by(|a, b| a.get_value() == b.get_value());
        candidates
    })
}

fn candidate(name: String) -> CompletionCandidate {
    CompletionCandidate::new(print::plain(&name))
}

/// What a registry answers before whoever types loses patience; nothing if that takes longer.
fn looked_up<T: Default>(ask: impl AsyncFnOnce(Client) -> T) -> T {
    const PATIENCE: Duration = Duration::from_secs(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return T::default() };
    let answer = runtime.block_on(async {
        let asked = async {
            match typed_world().client().await {
                Ok(client) => ask(client).await,
                Err(_) => T::default(),
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_default()
    });
    // A name that is still being resolved would be waited for.
    runtime.shutdown_background();
    answer
}

/// The registry that the line typed so far names.
fn typed_world() -> World {
    // Scripts pass the line after `--`.
    let line: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let line: Vec<_> = line.iter().filter_map(|word| word.to_str()).collect();
    let value = |flag: &str| {
        let at = line.iter().position(|word| word.split('=').next() == Some(flag))?;
        let value = line[at].split_once('=').map(|(_, value)| value).or(line.get(at + 1).copied());
        value.map(str::to_owned)
    };
    World { registry: value("--registry"), namespace: value("--namespace") }
}
