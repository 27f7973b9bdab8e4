//! Where configuration comes from: flags, the environment, a file. The only place that reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Values given from outside the program, each with its origin.
///
/// What a builder's setters say stands below them: flags come before the environment, the
/// environment before `micro.toml`, the file before code, code before defaults. [`Service`] and
/// [`Client`] read [`from_process`](Self::from_process) unless they are handed other settings.
///
/// | key (file) | variable | example |
/// |---|---|---|
/// | `registry` | `MICRO_REGISTRY` | `local:`, `memory:`, `static:greeter=10.0.0.1:7000` |
/// | `namespace` | `MICRO_NAMESPACE` | `shop` |
/// | `name` | `MICRO_NAME` | `greeter` |
/// | `version` | `MICRO_VERSION` | `1.4.2` |
/// | `address` | `MICRO_ADDRESS` | `0.0.0.0:0`, `unix:/run/greeter.sock` |
/// | `advertise` | `MICRO_ADVERTISE` | `10.0.0.5:7000`, or only a host |
/// | `zone` | `MICRO_ZONE` | `eu-1a` |
/// | `register_ttl` | `MICRO_REGISTER_TTL` | `30s` |
/// | `register_interval` | `MICRO_REGISTER_INTERVAL` | `10s` |
/// | `selector` | `MICRO_SELECTOR` | `least-loaded`, `round-robin`, `random` |
///
/// The file is `micro.toml` in the working directory, if there is one, or the one `MICRO_CONFIG`
/// names, which then must exist.
///
/// [`Service`]: crate::Service
/// [`Client`]: crate::Client
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Value>,
    runtime_directory: Option<PathBuf>,
}

#[derive(Clone)]
struct Value {
    text: String,
    origin: Origin,
}

/// A registry's URL may hold a password.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.text.contains('@') { "***" } else { &self.text };
        write!(f, "{text:?} from {}", self.origin)
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
            Self::Flag(key) => write!(f, "flag --{}", key.replace('_', "-")),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Code => f.write_str("code"),
            Self::Default => f.write_str("default"),
        }
    }
}

const KEYS: [&str; 10] = [
    "registry",
    "namespace",
    "name",
    "version",
    "address",
    "advertise",
    "zone",
    "register_ttl",
    "register_interval",
    "selector",
];

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
    /// and for a variable that is not UTF-8.
    pub fn from_process() -> Result<Self, Error> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            let value = value.into_string().map_err(|value| {
                let value = value.to_string_lossy().into_owned();
                Error::invalid(format!("environment variable {name} {value:?} is not UTF-8"))
            })?;
            variables.push((name.to_owned(), value));
        }
        let file = variables.iter().find(|(name, _)| name == FILE_VARIABLE);
        let file = match file {
            Some((_, path)) => Some(read(Path::new(path))?),
            None if Path::new(DEFAULT_FILE).exists() => Some(read(Path::new(DEFAULT_FILE))?),
            None => None,
        };
        Self::from_parts(file.as_ref().map(|(path, text)| (&**path, &**text)), variables)
    }

    /// The same, from a file's path and text and from variables.
    ///
    /// # Errors
    ///
    /// As [`from_process`](Self::from_process).
    pub fn from_parts(
        file: Option<(&Path, &str)>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut settings = Self::none();
        if let Some((path, text)) = file {
            settings.add_file(path, text)?;
        }
        for (variable, text) in variables {
            match variable.as_str() {
                RUNTIME_DIRECTORY => settings.runtime_directory = Some(text.into()),
                FILE_VARIABLE => {}
                _ => settings.add_variable(variable, text),
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
        debug_assert!(KEYS.contains(&key), "{key} is not in the table");
        let Some(Value { text, origin }) = self.values.get(key) else {
            return Ok(code.map(|value| Resolved { value, origin: Origin::Code }));
        };
        let value = parse(text).map_err(|why| {
            Error::invalid(format!("{key} {text:?} from {origin} is invalid: {why}"))
        })?;
        Ok(Some(Resolved { value, origin: origin.clone() }))
    }

    /// The value of a key as it was given from outside.
    #[cfg_attr(not(feature = "local"), expect(dead_code, reason = "only backends ask"))]
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| &*value.text)
    }

    /// The directory for files that need not outlive the login, if the system has one.
    #[cfg_attr(not(feature = "local"), expect(dead_code, reason = "only backends ask"))]
    pub(crate) fn runtime_directory(&self) -> Option<&Path> {
        self.runtime_directory.as_deref()
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // Without the line itself, which may hold a password.
            Error::invalid(format!("file {} is not TOML: {}", path.display(), error.message()))
        })?;
        for (key, value) in table {
            let place = format!("file {}", path.display());
            let key = known(&key).ok_or_else(|| Error::invalid(unknown_key(&key, &place)))?;
            let toml::Value::String(text) = value else {
                let kind = value.type_str();
                let message = format!("{key} in {place} is of type {kind}: expected a string");
                return Err(Error::invalid(message));
            };
            self.values.insert(key, Value { text, origin: Origin::File(path.to_owned()) });
        }
        Ok(())
    }

    /// An unknown variable may belong to somebody else, so it is no error; a slip is worth a line.
    fn add_variable(&mut self, variable: String, text: String) {
        let key = variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase);
        match key.as_deref().and_then(known) {
            Some(key) => {
                self.values.insert(key, Value { text, origin: Origin::Environment(variable) });
            }
            None => tracing::warn!(variable, "unknown environment variable, ignoring it"),
        }
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
}

const PREFIX: &str = "MICRO_";
const RUNTIME_DIRECTORY: &str = "XDG_RUNTIME_DIR";

fn is_ours(variable: &str) -> bool {
    variable.starts_with(PREFIX) || variable == RUNTIME_DIRECTORY
}

fn known(key: &str) -> Option<&'static str> {
    KEYS.into_iter().find(|known| *known == key)
}

fn unknown_key(key: &str, place: &str) -> String {
    format!("key {key:?} in {place} is unknown: expected one of {}", KEYS.join(", "))
}

fn read(path: &Path) -> Result<(PathBuf, String), Error> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("file {} cannot be read", path.display())).with_source(error)
    })?;
    Ok((path.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
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

    /// What makes no sense names the value and where it came from.
    #[test]
    fn errors_name_value_and_origin() {
        let settings =
            Settings::from_parts(None, variables(&[("MICRO_REGISTER_TTL", "x")])).unwrap();
        let error = settings.resolve("register_ttl", None, crate::duration::parse).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("\"x\" from environment variable MICRO_REGISTER_TTL"), "{error}");
        for (file, expected) in [
            ("nme = \"x\"", "key \"nme\" in file f.toml is unknown"),
            ("name = 7", "name in file f.toml is of type integer: expected a string"),
            ("name", "file f.toml is not TOML"),
        ] {
            let error = Settings::from_parts(Some((Path::new("f.toml"), file)), []).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(Settings::none().flag("nme", "x").is_err());
    }
}
