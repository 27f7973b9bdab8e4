//! Where configuration comes from: flags, the environment, a file. The only place that reads them.

mod arguments;
mod explanation;
mod keys;
mod opened;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, fs, io};

use arguments::Arguments;
pub(crate) use explanation::{Beneath, Explanation};
#[cfg(test)]
pub(crate) use keys::default;
use keys::{KEYS, PREFIX};
pub(crate) use opened::Lasts;
use opened::Opened;
use toml::Spanned;

use crate::{Error, duration, slips};

/// Values given from outside the program, each with its origin.
///
/// What a builder's setters say stands below them: flags come before the environment, the
/// environment before `micro.toml`, the file before code, code before defaults. [`Service`] and
/// [`Client`] read [`from_process`](Self::from_process) unless they are handed other settings.
///
/// | key in `micro.toml` | variable | flag | sets | default |
/// |---|---|---|---|---|
/// | `registry` | `MICRO_REGISTRY` | `--registry URL` | where services are registered and looked up | `local:` |
/// | `namespace` | `MICRO_NAMESPACE` | `--namespace NAME` | which part of the registry | the registry's own |
/// | `name` | `MICRO_NAME` | `--name NAME` | the name the service is looked up by | its only contract's |
/// | `version` | `MICRO_VERSION` | `--version VERSION` | the version of the service, such as 1.4.2 | `latest` |
/// | `address` | `MICRO_ADDRESS` | `--address ADDRESS` | where it listens: host:port or unix:/path | a free port |
/// | `advertise` | `MICRO_ADVERTISE` | `--advertise ADDRESS` | the address others are told, or only its host | where it listens |
/// | `hosts` | `MICRO_HOSTS` | `--hosts NAMES` | further names for HTTP callers, such as a.example,b.example | none |
/// | `zone` | `MICRO_ZONE` | `--zone ZONE` | the failure domain it runs in, whose nodes a client prefers | none |
/// | `register_ttl` | `MICRO_REGISTER_TTL` | `--register-ttl DURATION` | how long a registration lasts, at least twice the interval | `30s` |
/// | `register_interval` | `MICRO_REGISTER_INTERVAL` | `--register-interval DURATION` | how often it is renewed, at least 100ms | `10s` |
/// | `drain_delay` | `MICRO_DRAIN_DELAY` | `--drain-delay DURATION` | how long a service that stops accepts calls, at most 5m | `2s` |
/// | `max_frame` | `MICRO_MAX_FRAME` | `--max-frame BYTES` | the longest request accepted, with its head: 1024 to 67108864 bytes | `4194304` |
/// | `max_metadata` | `MICRO_MAX_METADATA` | `--max-metadata BYTES` | the most metadata accepted with a request, at most 16384 bytes | `16384` |
/// | `max_in_flight` | `MICRO_MAX_IN_FLIGHT` | `--max-in-flight NUMBER` | calls at once that one connection may make, 1 to 65536 | `1024` |
/// | `max_rate_per_peer` | `MICRO_MAX_RATE_PER_PEER` | `--max-rate-per-peer NUMBER` | calls a second that one IP address may make; or off | `off` |
/// | `max_running` | `MICRO_MAX_RUNNING` | `--max-running NUMBER` | calls that run at once, 1 to 65536 | `65536` |
/// | `adaptive` | `MICRO_ADAPTIVE` | `--adaptive SWITCH` | whether fewer run at once while calls take long because of each other: on or off | `on` |
/// | `min_running` | `MICRO_MIN_RUNNING` | `--min-running NUMBER` | the fewest at once that this goes down to, 1 to max_running | `32` |
/// | `max_queued` | `MICRO_MAX_QUEUED` | `--max-queued NUMBER` | calls of each criticality that wait for their turn, at most 65536 | `1024` |
/// | `max_queue_time` | `MICRO_MAX_QUEUE_TIME` | `--max-queue-time DURATION` | how long a call waits for its turn, at most a year | `100ms` |
/// | `max_connections` | `MICRO_MAX_CONNECTIONS` | `--max-connections NUMBER` | connections that are open at once, at least 1 | `10000` |
/// | `max_connections_per_peer` | `MICRO_MAX_CONNECTIONS_PER_PEER` | `--max-connections-per-peer NUMBER` | those of one IP address, at least 1 | `1024` |
/// | `stall_timeout` | `MICRO_STALL_TIMEOUT` | `--stall-timeout DURATION` | how long a peer may stop in the middle of something, 1ms to a year | `10s` |
/// | `selector` | `MICRO_SELECTOR` | `--selector STRATEGY` | how a client picks a node: ewma, least-loaded, round-robin, random, weighted or consistent-hash | `ewma` |
/// | `hash_by` | `MICRO_HASH_BY` | `--hash-by KEY` | the metadata whose value consistent-hash goes by, such as baggage.user, or call keys for each call's own | none |
/// | `filter` | `MICRO_FILTER` | `--filter FILTER` | which nodes a client calls, such as version=^1.4; zone=a; label.track=canary | all |
/// | `attempts` | `MICRO_ATTEMPTS` | `--attempts NUMBER` | how often a call is tried, 1 to 8 | `3` |
/// | `retry_budget` | `MICRO_RETRY_BUDGET` | `--retry-budget BUDGET` | how much of the calls, and how many a second, may be retries; what is left out is none | `20% + 10/s` |
/// | `throttle` | `MICRO_THROTTLE` | `--throttle THROTTLE` | attempts an overloaded service gets for each that it accepts, over how long; or off | `1.7 over 1s` |
/// | `log` | `MICRO_LOG` | `--log FILTER` | which log lines and spans there are, such as warn,shop=debug | `info` |
/// | `spans_to` | `MICRO_SPANS_TO` | `--spans-to URL` | where spans are exported to, by OTLP over gRPC, such as http://localhost:4317 | nowhere |
///
/// Durations are a number and a unit: `us`, `ms`, `s`, `m` or `h`. The namespace is for a registry
/// that is named here, or by default; one that is made in code has its own, and a list of `static:`
/// has none. Whatever is built from these settings and their clones shares one handle of a registry,
/// which closes with its last user. That of `memory:` stays for as long as they do, and nobody else
/// finds what is in it.
///
/// Of a variable that begins with `MICRO_` and is unknown warns whatever is built from these settings
/// first, when it starts: when they are read there may be no log yet.
///
/// The file is `micro.toml` in the working directory, if there is one, or the one that `--config` or
/// else `MICRO_CONFIG` names, which then must exist. Nobody reads the command line unasked: a program
/// leaves it to [`from_args`](Self::from_args), or parses flags of its own and adds what they say with
/// [`flag`](Self::flag).
///
/// # Examples
///
/// ```
/// let settings = micro::Settings::none().flag("registry", "memory:")?;
/// let service = micro::Service::new().settings(settings);
/// # Ok::<(), micro::Error>(())
/// ```
///
/// [`Service`]: crate::Service
/// [`Client`]: crate::Client
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Value>,
    runtime_directory: Option<PathBuf>,
    /// Whether the command line asks for an explanation instead of a program that runs.
    explains: bool,
    /// Whether whatever else reads the settings of the process has the same.
    of_process: bool,
    /// What was read and is ignored, until somebody was told; of all clones.
    ignored: Arc<Mutex<Vec<String>>>,
    /// The registries that are open; of all clones.
    opened: Arc<Mutex<Opened>>,
}

#[derive(Clone)]
struct Value {
    text: String,
    origin: Origin,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {}", shown(&self.text), self.origin)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A command-line flag of this key.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A configuration file.
    File(PathBuf),
    /// A setter of the builder.
    Code,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "flag {}", keys::flag(key)),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Code => f.write_str("code"),
            Self::Default => f.write_str("default"),
        }
    }
}

const DEFAULT_FILE: &str = "micro.toml";
const FILE_VARIABLE: &str = "MICRO_CONFIG";

impl Settings {
    /// No settings: what the builders say and the defaults apply.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the file and the environment of this process.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a file that cannot be read or is not TOML, for an unknown key in it,
    /// and for a variable of a known key that is not UTF-8.
    pub fn from_process() -> Result<Self, Error> {
        Self::read(Arguments::default(), process_variables(), Path::new(DEFAULT_FILE))
    }

    /// The same with the flags of the command line above it, for programs that have no flags of
    /// their own: `--registry URL`, or `--registry=URL`, and so on for every key.
    ///
    /// `--config FILE` names the file. `--help` prints the usage and ends the process with exit code
    /// 0. `--explain-config` makes whatever is built from these settings, a service or a client, print
    /// every value with its origin before anything is started, and end the process likewise.
    ///
    /// What cannot be read ends the process too, with exit code 2 and a message on standard error: an
    /// unknown flag, with the one that was probably meant and the usage, an argument that is no flag,
    /// a flag without value, and the errors of [`from_process`](Self::from_process).
    pub fn from_args() -> Self {
        let mut arguments = std::env::args_os();
        let program = arguments.next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
        let arguments = Arguments::parse(arguments).unwrap_or_else(|why| {
            end(2, io::stderr(), &format!("{program}: {why}\n\n{}", arguments::usage(&program)))
        });
        if arguments.help {
            end(0, io::stdout(), &arguments::usage(&program));
        }
        let settings = Self::read(arguments, process_variables(), Path::new(DEFAULT_FILE));
        settings.unwrap_or_else(|error| end(2, io::stderr(), &format!("{program}: {error:?}\n")))
    }

    fn read(
        arguments: Arguments,
        variables: Vec<(OsString, OsString)>,
        default_file: &Path,
    ) -> Result<Self, Error> {
        let variable = variables.iter().find(|(name, _)| name == FILE_VARIABLE);
        let file = match (&arguments.file, variable) {
            (Some(path), _) => Some(read_named(path, &Origin::Flag("config"))?),
            (None, Some((_, path))) => {
                let origin = Origin::Environment(FILE_VARIABLE.to_owned());
                Some(read_named(Path::new(path), &origin)?)
            }
            (None, None) => read_if_there(default_file)?,
        };
        let file = file.as_ref().map(|(path, text)| (&**path, &**text));
        let mut settings = Self::from_parts(file, variables)?;
        for (key, value) in arguments.values {
            settings = settings.flag(key, value)?;
        }
        Ok(Self { explains: arguments.explain, of_process: true, ..settings })
    }

    /// The same, from a file's path and text and from variables, of which only those that begin with
    /// `MICRO_`, and `XDG_RUNTIME_DIR`, are looked at.
    ///
    /// # Errors
    ///
    /// As [`from_process`](Self::from_process).
    pub fn from_parts(
        file: Option<(&Path, &str)>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let mut settings = Self::none();
        if let Some((path, text)) = file {
            settings.add_file(path, text)?;
        }
        for (variable, value) in variables {
            match &*variable.to_string_lossy() {
                // A directory need not be UTF-8.
                RUNTIME_DIRECTORY => settings.runtime_directory = Some(value.into()),
                FILE_VARIABLE => {}
                ours if ours.starts_with(PREFIX) => settings.add_variable(ours, value)?,
                _ => {}
            }
        }
        Ok(settings)
    }

    /// A value from the command line, above all others. `key` is one of the table's.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a key that is not.
    pub fn flag(mut self, key: &str, value: impl Into<String>) -> Result<Self, Error> {
        let key = known(key).ok_or_else(|| Error::invalid(unknown_key(key, "a flag")))?;
        self.values.insert(key, Value { text: value.into(), origin: Origin::Flag(key) });
        Ok(self)
    }

    /// Every key with its value and where that comes from, one line each, for people; passwords are
    /// not shown. What code says is not known here: [`Service::explain`] has it.
    ///
    /// ```
    /// let settings = micro::Settings::none().flag("name", "shop")?;
    /// let explanation = settings.explain().to_string();
    /// assert!(explanation.lines().any(|line| line.starts_with("name ") && line.ends_with("flag --name")));
    /// # Ok::<(), micro::Error>(())
    /// ```
    ///
    /// [`Service::explain`]: crate::Service::explain
    pub fn explain(&self) -> impl fmt::Display + use<> {
        Explanation::new(self, &Beneath::new())
    }

    /// The same for programs: key, value and origin of each.
    pub fn explained(&self) -> Vec<[String; 3]> {
        Explanation::new(self, &Beneath::new()).into_rows()
    }

    /// Prints what a command line with `--explain-config` asks for, and what is ignored, and ends the
    /// process; does nothing for any other.
    pub(crate) fn end_if_to_explain(&self, explanation: impl FnOnce() -> String) {
        if self.explains {
            end(0, io::stdout(), &self.with_ignored(explanation()));
        }
    }

    /// An explanation and, as nothing will come to warn of it, what was read and is ignored.
    fn with_ignored(&self, mut explanation: String) -> String {
        let ignored = self.take_ignored();
        if !ignored.is_empty() {
            explanation.push('\n');
        }
        explanation.extend(ignored.into_iter().map(|what| what + "\n"));
        explanation
    }

    /// Whether they were read by [`from_process`](Self::from_process) or
    /// [`from_args`](Self::from_args), so that others have the same.
    pub(crate) fn are_of_the_process(&self) -> bool {
        self.of_process
    }

    /// Removes what tells one service from another, and names it with its origins.
    pub(crate) fn remove_identity(&mut self) -> Vec<String> {
        let keys = KEYS.iter().filter(|key| key.is_identity);
        let removed = keys.filter_map(|key| Some((key.name, self.values.remove(key.name)?)));
        removed.map(|(key, value)| format!("{key} from {}", value.origin)).collect()
    }

    /// The value of a key: from outside if given there, else what `code` says, if it says anything.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming key, value, origin and what `parse` says.
    pub(crate) fn resolve<T>(
        &self,
        key: &'static str,
        code: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Resolved<T>>, Error> {
        debug_assert!(keys::find(key).is_some(), "{key} is not in the table");
        let Some(Value { text, origin }) = self.values.get(key) else {
            return Ok(code.map(Resolved::by_code));
        };
        let value = parse(text).map_err(|why| invalid(key, text, origin, &why))?;
        Ok(Some(Resolved { value, origin: origin.clone() }))
    }

    /// The same, with the default of the table beneath it.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve), and for a key whose default is no value.
    pub(crate) fn resolve_or_default<T>(
        &self,
        key: &'static str,
        code: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Resolved<T>, Error> {
        if let Some(resolved) = self.resolve(key, code, &parse)? {
            return Ok(resolved);
        }
        let text = keys::default(key).unwrap_or_default();
        let value = parse(text).map_err(|why| invalid(key, text, &Origin::Default, &why))?;
        Ok(Resolved::by_default(value))
    }

    /// The same for text that must keep a rule of the model, wherever it comes from.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming key, value, origin and the rule.
    pub(crate) fn checked(
        &self,
        key: &'static str,
        code: Option<String>,
        rule: Rule,
    ) -> Result<Option<Resolved<String>>, Error> {
        let resolved = self.resolve(key, code, |text| Ok(text.to_owned()))?;
        resolved.map(|resolved| resolved.check(key, rule)).transpose()
    }

    /// The directory for files that need not outlive the login, if the system has one.
    #[cfg_attr(not(feature = "local"), expect(dead_code, reason = "only backends ask"))]
    pub(crate) fn runtime_directory(&self) -> Option<&Path> {
        self.runtime_directory.as_deref()
    }

    /// Warns of what was read and is ignored: once for these settings and all their clones, and not
    /// before there can be a log.
    pub(crate) fn warn_of_ignored(&self) {
        for what in self.take_ignored() {
            tracing::warn!("{what}");
        }
    }

    fn take_ignored(&self) -> Vec<String> {
        std::mem::take(&mut *self.ignored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The registries that are open, the same for all clones.
    pub(crate) fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let place = |at: usize| {
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
            format!("file {}, line {line},", path.display())
        };
        let table: BTreeMap<Spanned<String>, Spanned<toml::Value>> =
            toml::from_str(text).map_err(|error| {
                // Without the line itself, which may hold a password.
                let place = place(error.span().map_or(0, |span| span.start));
                Error::invalid(format!("{place} is not TOML: {}", error.message()))
            })?;
        for (key, value) in table {
            let place = place(key.span().start);
            let key = key.get_ref();
            let key = known(key).ok_or_else(|| Error::invalid(unknown_key(key, &place)))?;
            let toml::Value::String(text) = value.into_inner() else {
                let message = format!("{key} in {place} is no string: write {key} = \"…\"");
                return Err(Error::invalid(message));
            };
            self.values.insert(key, Value { text, origin: Origin::File(path.to_owned()) });
        }
        Ok(())
    }

    /// An unknown variable may belong to somebody else, so it is no error; a slip is worth a line.
    fn add_variable(&mut self, variable: &str, value: OsString) -> Result<(), Error> {
        let Some(key) = KEYS.iter().find(|key| key.variable() == variable) else {
            let mut ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
            ignored.push(unknown_variable(variable));
            return Ok(());
        };
        let origin = Origin::Environment(variable.to_owned());
        let text = value.into_string().map_err(|value| {
            invalid(key.name, shown(&value.to_string_lossy()), &origin, "expected UTF-8")
        })?;
        self.values.insert(key.name, Value { text, origin });
        Ok(())
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub(crate) struct Resolved<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Resolved<T> {
    pub(crate) fn by_default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    pub(crate) fn by_code(value: T) -> Self {
        Self { value, origin: Origin::Code }
    }
}

impl Resolved<Duration> {
    /// The error of a value that breaks a rule.
    pub(crate) fn invalid(&self, key: &str, why: &str) -> Error {
        let value = duration::text(self.value);
        Error::invalid(format!("{key} {value} from {} is invalid: {why}", self.origin))
    }
}

impl Resolved<String> {
    /// The error of a value that breaks a rule.
    pub(crate) fn invalid(&self, key: &str, why: &str) -> Error {
        invalid(key, shown(&self.value), &self.origin, why)
    }

    /// Itself, if it keeps the rule.
    pub(crate) fn check(self, key: &str, rule: Rule) -> Result<Self, Error> {
        match rule(&self.value) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.invalid(key, &expectation(&error))),
        }
    }
}

/// A rule of the model for a text.
pub(crate) type Rule = fn(&str) -> Result<(), micro_registry::Error>;

/// What a rule's error asks for, without the value, which whoever reports it names with its origin.
pub(crate) fn expectation(error: &micro_registry::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" is invalid: ").map_or(text.clone(), |(_, expected)| expected.to_owned())
}

/// The error of a value that makes no sense; `why` says what would.
pub(crate) fn invalid(key: &str, value: impl fmt::Debug, origin: &Origin, why: &str) -> Error {
    Error::invalid(format!("{key} {value:?} from {origin} is invalid: {why}"))
}

const RUNTIME_DIRECTORY: &str = "XDG_RUNTIME_DIR";

/// Says a last word and ends the process; only [`Settings::from_args`] leads here. A reader that is
/// gone hears nothing.
fn end(code: i32, mut to: impl Write, text: &str) -> ! {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    std::process::exit(code)
}

fn process_variables() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

fn known(key: &str) -> Option<&'static str> {
    keys::find(key).map(|key| key.name)
}

fn unknown_key(key: &str, place: &str) -> String {
    let known = KEYS.each_ref().map(|key| key.name).join(", ");
    format!("key {key:?} in {place} is unknown: expected one of {known}")
}

/// Variables are written in capitals, so one that is not is a slip like others.
fn unknown_variable(variable: &str) -> String {
    let others = [FILE_VARIABLE.to_owned()];
    let known: Vec<_> = KEYS.iter().map(keys::Key::variable).chain(others).collect();
    let ignored = format!("environment variable {variable} is unknown and ignored");
    match slips::nearest(&variable.to_ascii_uppercase(), PREFIX, &known) {
        Some(meant) => format!("{ignored}: did you mean {meant}?"),
        None => ignored,
    }
}

/// A value as it may be shown to anybody: a URL may hold a password, before its host or in its query.
pub(crate) fn shown(text: &str) -> &str {
    if text.contains(['@', '?']) { "***" } else { text }
}

/// The file that somebody names.
fn read_named(path: &Path, origin: &Origin) -> Result<(PathBuf, String), Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid(format!("{origin} is empty: expected the path of a file")));
    }
    let unread = format!("file {path:?} from {origin} cannot be read");
    let text =
        fs::read_to_string(path).map_err(|error| Error::invalid(unread).with_source(error))?;
    Ok((path.to_owned(), text))
}

/// The file that is read when nobody names one. What is there but cannot be read, such as a link
/// to nowhere, was meant to be.
fn read_if_there(path: &Path) -> Result<Option<(PathBuf, String)>, Error> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let unread = format!("file {path:?} of the working directory cannot be read");
    let text =
        fs::read_to_string(path).map_err(|error| Error::invalid(unread).with_source(error))?;
    Ok(Some((path.to_owned(), text)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn text(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    fn garbled(start: &str) -> OsString {
        OsString::from_vec([start.as_bytes(), b"\xff"].concat())
    }

    /// Flags come before the environment, the environment before the file, the file before code.
    #[test]
    fn precedence() {
        let file = "name = \"file\"\nzone = \"file\"\nversion = \"file\"\n";
        let environment = variables(&[("MICRO_NAME", "env"), ("MICRO_VERSION", "env")]);
        let settings = Settings::from_parts(Some((Path::new("micro.toml"), file)), environment)
            .unwrap()
            .flag("name", "flag")
            .unwrap();
        let get = |key| {
            let resolved = settings.resolve(key, Some("code".to_owned()), text).unwrap().unwrap();
            (resolved.value, resolved.origin.to_string())
        };
        assert_eq!(get("name"), ("flag".into(), "flag --name".into()));
        assert_eq!(get("version"), ("env".into(), "environment variable MICRO_VERSION".into()));
        assert_eq!(get("zone"), ("file".into(), "file micro.toml".into()));
        assert_eq!(get("address"), ("code".into(), "code".into()));
        assert!(settings.resolve("advertise", None, text).unwrap().is_none());
    }

    /// Settings know whether others in the process have the same; identity is a service's own.
    #[test]
    fn identity_is_removed() {
        let none = Path::new("/nosuch/micro.toml");
        let variables = variables(&[("MICRO_NAME", "x"), ("MICRO_ZONE", "z")]);
        let mut settings = Settings::read(Arguments::default(), variables, none).unwrap();
        assert!(settings.are_of_the_process());
        assert!(!Settings::none().flag("name", "x").unwrap().are_of_the_process());
        settings = settings.flag("address", "127.0.0.1:0").unwrap();
        let removed = settings.remove_identity();
        assert_eq!(
            removed,
            ["name from environment variable MICRO_NAME", "address from flag --address"]
        );
        assert_eq!(settings.values.keys().copied().collect::<Vec<_>>(), ["zone"]);
    }

    /// What makes no sense names the value and where it came from.
    #[test]
    fn errors_name_value_and_origin() {
        let settings =
            Settings::from_parts(None, variables(&[("MICRO_REGISTER_TTL", "x")])).unwrap();
        let error = settings.resolve("register_ttl", None, crate::duration::parse).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("\"x\" from environment variable MICRO_REGISTER_TTL"), "{error}");
        for (file, expected) in [
            ("nme = \"x\"", "key \"nme\" in file f.toml, line 1, is unknown"),
            ("# é\n\nname = 7", "name in file f.toml, line 3, is no string: write name = \"…\""),
            ("zone = \"z\"\nname", "file f.toml, line 2, is not TOML"),
            ("zone = \"z\"\nname = \"x\n", "file f.toml, line 2, is not TOML"),
        ] {
            let error = Settings::from_parts(Some((Path::new("f.toml"), file)), []).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(Settings::none().flag("nme", "x").is_err());
    }

    /// What begins like a variable of ours and is none is told, with what was probably meant; what
    /// does not is not looked at, and capitals matter.
    #[test]
    fn unknown_variables_are_told() {
        let told = |variable: &str| {
            let settings = Settings::from_parts(None, variables(&[(variable, "x")])).unwrap();
            assert!(settings.values.is_empty(), "{variable}");
            settings.ignored.lock().unwrap().join("\n")
        };
        for (variable, expected) in [
            ("MICRO_NAMSPACE", "and ignored: did you mean MICRO_NAMESPACE?"),
            ("MICRO_name", "MICRO_name is unknown and ignored: did you mean MICRO_NAME?"),
            ("MICRO_config", "did you mean MICRO_CONFIG?"),
            ("MICRO_TTL", "did you mean MICRO_REGISTER_TTL?"),
            ("MICRO_WAVE_OVEN", "environment variable MICRO_WAVE_OVEN is unknown and ignored"),
        ] {
            let told = told(variable);
            assert!(told.ends_with(expected), "{told}");
        }
        for other in ["PATH", "MICROSCOPE", "micro_name", "MY_MICRO_NAME"] {
            assert_eq!(told(other), "", "{other}");
        }
    }

    /// A program that only explains its settings says what it ignores as well, below the values.
    #[test]
    fn an_explanation_tells_what_is_ignored() {
        let settings = Settings::from_parts(None, variables(&[("MICRO_NAMSPACE", "x")])).unwrap();
        let explained = settings.with_ignored(settings.explain().to_string());
        let told = "\n\nenvironment variable MICRO_NAMSPACE is unknown and ignored: \
            did you mean MICRO_NAMESPACE?\n";
        assert!(explained.starts_with("registry ") && explained.ends_with(told), "{explained}");
        let nothing = Settings::none();
        let explanation = nothing.explain().to_string();
        assert_eq!(nothing.with_ignored(explanation.clone()), explanation);
    }

    /// Only a variable of a known key must be UTF-8; the runtime directory is taken as it is.
    #[test]
    fn text_that_is_not_utf8() {
        let variables = [
            ("MICRO_NOSUCH".into(), garbled("x")),
            (garbled("MICRO_X"), "x".into()),
            (RUNTIME_DIRECTORY.into(), garbled("/run/")),
        ];
        let settings = Settings::from_parts(None, variables).unwrap();
        assert_eq!(settings.runtime_directory(), Some(Path::new(&garbled("/run/"))));
        let known = [("MICRO_REGISTRY".into(), garbled("etcd://u:hunter2@h"))];
        let error = Settings::from_parts(None, known).unwrap_err().to_string();
        assert!(error.contains("registry \"***\" from environment variable MICRO_REGISTRY"));
        assert!(error.contains("expected UTF-8"), "{error}");
    }

    /// A file somebody named must be there; one in the working directory must be readable if it is
    /// there at all, a link to nowhere included.
    #[test]
    fn files_that_cannot_be_read() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let read = |named: Option<&Path>, default: &Path| {
            let named = named.map(|path| (FILE_VARIABLE.into(), path.into()));
            Settings::read(Arguments::default(), named.into_iter().collect(), default)
        };
        let none = path("none");
        read(None, &none).unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("link")).unwrap();
        for (named, default, expected) in [
            (Some(&*none), &none, "from environment variable MICRO_CONFIG cannot be read"),
            (Some(directory.path()), &none, "from environment variable MICRO_CONFIG cannot be"),
            (Some(Path::new("")), &none, "environment variable MICRO_CONFIG is empty"),
            (None, &path("link"), "link\" of the working directory cannot be read"),
            (None, &directory.path().to_owned(), "of the working directory cannot be read"),
        ] {
            let error = read(named, default).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        // What the operating system says is the cause, and not twice.
        let error = read(Some(&none), &none).unwrap_err();
        assert_eq!(format!("{error:?}").matches("No such file").count(), 1, "{error:?}");
        fs::write(path("there"), "name = \"x\"").unwrap();
        assert!(read(Some(&path("there")), &none).unwrap().values.contains_key("name"));
    }
}
