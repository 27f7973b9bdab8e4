//! The command line of programs that leave it to this crate.

use std::ffi::OsString;
use std::path::PathBuf;

use super::keys::{self, KEYS, Unset};
use super::slips;

/// What a command line says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arguments {
    /// Values by the names of their keys.
    pub(super) values: Vec<(&'static str, String)>,
    pub(super) file: Option<PathBuf>,
    pub(super) explain: bool,
    pub(super) help: bool,
}

impl Arguments {
    /// Reads what stands behind the program's name: `--key value` or `--key=value`, each once.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter().map(text).peekable();
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            let argument = argument?;
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (&*argument, None),
            };
            let meaning = Meaning::of(flag, &argument)?;
            let value = match value {
                None if meaning.takes_value() => arguments
                    .next_if(|next| next.as_ref().is_ok_and(|next| !next.starts_with("--"))),
                value => value.map(Ok),
            };
            parsed.add(flag, meaning, value.transpose()?)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, flag: &str, meaning: Meaning, value: Option<String>) -> Result<(), String> {
        match (meaning, value) {
            (Meaning::Explain, None) => self.explain = true,
            (Meaning::Help, None) => self.help = true,
            (Meaning::Explain | Meaning::Help, Some(_)) => {
                return Err(format!("flag {flag} takes no value"));
            }
            (_, None) => return Err(format!("flag {flag} has no value")),
            (Meaning::File, Some(_)) if self.file.is_some() => return Err(twice(flag)),
            (Meaning::File, Some(path)) => self.file = Some(path.into()),
            (Meaning::Key(key), Some(_)) if self.values.iter().any(|(known, _)| *known == key) => {
                return Err(twice(flag));
            }
            (Meaning::Key(key), Some(value)) => self.values.push((key, value)),
        }
        Ok(())
    }
}

/// What `--help` prints.
pub(super) fn usage(program: &str) -> String {
    let mut lines = vec![format!("usage: {program} [flags]"), String::new()];
    lines.extend(KEYS.iter().map(|key| {
        let default = match key.unset {
            Unset::Is(value) => value.to_owned(),
            Unset::Follows(words) => words.to_owned(),
        };
        line(&format!("{} {}", key.flag(), key.value), &format!("{} [{default}]", key.about))
    }));
    lines.push(line(&format!("{FILE} FILE"), "the file to read instead of micro.toml"));
    lines.push(line(EXPLAIN, "prints every value with its origin, and ends"));
    lines.push(line(HELP, "prints this, and ends"));
    lines.push(String::new());
    lines.push(format!(
        "Flags come before the environment ({}, …), the environment before the file ({} = \"…\").",
        KEYS[0].variable(),
        KEYS[0].name,
    ));
    lines.join("\n") + "\n"
}

enum Meaning {
    Key(&'static str),
    File,
    Explain,
    Help,
}

const FILE: &str = "--config";
const EXPLAIN: &str = "--explain-config";
const HELP: &str = "--help";

impl Meaning {
    /// What a flag means; `argument` is all of what it was written as, which may be no flag at all.
    fn of(flag: &str, argument: &str) -> Result<Self, String> {
        match flag {
            FILE => Ok(Self::File),
            EXPLAIN => Ok(Self::Explain),
            HELP | "-h" => Ok(Self::Help),
            _ if !flag.starts_with('-') => {
                Err(format!("argument {:?} is no flag", super::shown(argument)))
            }
            _ => {
                let key = KEYS.iter().find(|key| key.flag() == flag);
                key.map(|key| Self::Key(key.name)).ok_or_else(|| unknown(flag))
            }
        }
    }

    fn takes_value(&self) -> bool {
        matches!(self, Self::Key(_) | Self::File)
    }
}

fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|_| "an argument is not UTF-8".to_owned())
}

fn twice(flag: &str) -> String {
    format!("flag {flag} is there twice")
}

fn line(flag: &str, about: &str) -> String {
    format!("  {flag:28} {about}")
}

fn unknown(flag: &str) -> String {
    let written = super::shown(flag);
    match nearest(flag) {
        Some(meant) => format!("flag {written} is unknown: did you mean {meant}?"),
        None => format!("flag {written} is unknown"),
    }
}

/// The flag somebody may have meant.
fn nearest(flag: &str) -> Option<String> {
    let others = [FILE, EXPLAIN, HELP].map(str::to_owned);
    let flags: Vec<_> = KEYS.iter().map(keys::Key::flag).chain(others).collect();
    slips::nearest(flag, "--", &flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    /// Both spellings of a flag are read, and each of the table's keys has one.
    #[test]
    fn reads_flags() {
        let parsed = parse("--name shop --registry=static:a=10.0.0.1:1 --config f.toml").unwrap();
        let values =
            vec![("name", "shop".to_owned()), ("registry", "static:a=10.0.0.1:1".to_owned())];
        assert_eq!(parsed, Arguments { values, file: Some("f.toml".into()), ..Default::default() });
        for key in &KEYS {
            assert_eq!(
                parse(&format!("{} x", key.flag())).unwrap().values,
                [(key.name, "x".into())]
            );
        }
        assert!(parse("--explain-config").unwrap().explain);
        assert!(parse("-h").unwrap().help && parse("--name x --help").unwrap().help);
        assert_eq!(parse("--drain-delay -1s --zone=").unwrap().values[1], ("zone", String::new()));
    }

    /// What is not understood says why, and what was probably meant; no password is repeated.
    #[test]
    fn refuses_the_rest() {
        for (line, expected) in [
            ("--nmae x", "flag --nmae is unknown: did you mean --name?"),
            ("--registery=etcd://u:p@h", "flag --registery is unknown: did you mean --registry?"),
            ("--register_ttl 3s", "flag --register_ttl is unknown: did you mean --register-ttl?"),
            ("--ttl 3s", "flag --ttl is unknown: did you mean --register-ttl?"),
            ("--explain", "flag --explain is unknown: did you mean --explain-config?"),
            ("--quiet", "flag --quiet is unknown"),
            ("-n x", "flag -n is unknown"),
            ("shop", "argument \"shop\" is no flag"),
            ("etcd://u:p@h", "argument \"***\" is no flag"),
            ("etcd://u:pa=ss@h", "argument \"***\" is no flag"),
            ("--registry:etcd://u:p@h", "flag *** is unknown"),
            ("--name", "flag --name has no value"),
            ("--name --zone z", "flag --name has no value"),
            ("--name a --name=b", "flag --name is there twice"),
            ("--help=yes", "flag --help takes no value"),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        }
    }

    /// The usage has a line for every flag.
    #[test]
    fn usage_names_every_flag() {
        let usage = usage("hello");
        assert!(usage.starts_with("usage: hello "), "{usage}");
        for flag in KEYS.iter().map(keys::Key::flag).chain([FILE, EXPLAIN, HELP].map(str::to_owned))
        {
            assert!(usage.contains(&format!("\n  {flag} ")), "{flag}: {usage}");
        }
    }
}
