//! What goes to standard output: tables, JSON and YAML.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// JSON, whose shape stays as the guide says
    Json,
}

/// Text from elsewhere without what moves a terminal's cursor or recolours it: control characters,
/// line breaks among them, are told instead.
pub(crate) fn plain(text: &str) -> String {
    let is_harmless = |c: &char| !c.is_control() || *c == '\t';
    let told =
        |c: char| if is_harmless(&c) { c.to_string() } else { c.escape_default().to_string() };
    text.chars().map(told).collect()
}

/// The same of text that may have several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Says something on standard error. Whether that is heard changes nothing.
pub(crate) fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints text as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a value as JSON, for people and programs.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    text(&format!("{}\n", escaped(&value)))
}

/// Prints a value as JSON, in one line.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_string(value).map_err(io::Error::from)?;
    text(&format!("{}\n", escaped(&value)))
}

/// Prints a value as YAML.
pub(crate) fn yaml(value: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_value(value).map_err(io::Error::from)?;
    let mut out = String::new();
    write_yaml(&mut out, &value, 0, false);
    text(&escaped(&out))
}

/// JSON whose strings have no control characters: its writer leaves those above ASCII, and DEL.
fn escaped(json: &str) -> String {
    let is_left = |c: char| c.is_control() && c >= '\x7f';
    let told =
        |c: char| if is_left(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(told).collect()
}

/// A number to three digits after the point, which is all that anybody reads.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Prints rows below a header, in columns, whatever their texts are.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
) -> Result<(), Failure> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let header = line(header);
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    text(&std::iter::once(header).chain(rows).collect::<String>())
}

/// A colour that says what kind of thing something is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Color {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Dim = 2,
}

/// Text in a colour, if it goes to a terminal whose user has not said that there be none.
pub(crate) fn paint(color: Color, text: &str, is_terminal: bool) -> String {
    match is_colored(is_terminal) {
        true => format!("\x1b[{}m{text}\x1b[0m", color as u8),
        false => text.to_owned(),
    }
}

/// The same on standard output.
pub(crate) fn painted(color: Color, text: &str) -> String {
    paint(color, text, io::stdout().is_terminal())
}

/// Whether there are colours on what is a terminal, by <https://no-color.org>.
pub(crate) fn is_colored(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn write_yaml(out: &mut String, value: &Value, depth: usize, is_in_line: bool) {
    let mut is_first = is_in_line;
    let mut indent = |out: &mut String| {
        if !std::mem::take(&mut is_first) {
            *out += &"  ".repeat(depth);
        }
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(out);
                *out += "- ";
                write_yaml(out, item, depth + 1, true);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                indent(out);
                *out += &scalar(key);
                match value {
                    Value::Array(items) if !items.is_empty() => *out += ":\n",
                    Value::Object(fields) if !fields.is_empty() => *out += ":\n",
                    _ => *out += ": ",
                }
                write_yaml(out, value, depth + 1, !out.ends_with('\n'));
            }
        }
        Value::String(text) => *out += &format!("{}\n", scalar(text)),
        // JSON is YAML.
        other => *out += &format!("{other}\n"),
    }
}

/// A string as YAML: plain where it can be taken for nothing else.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let means_more = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = !means_more.contains(&text.to_ascii_lowercase().as_str());
    match begins_well && is_word && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Nothing from elsewhere moves the cursor, and what is printed as JSON is still the same JSON.
    #[test]
    fn control_characters_are_told() {
        let nasty = "a\x1b[2J\tb\rc\nd\x7fe\u{9b}f\0ü";
        assert_eq!(plain(nasty), "a\\u{1b}[2J\tb\\rc\\nd\\u{7f}e\\u{9b}f\\u{0}ü");
        assert_eq!(plain_lines("a\nb\x1b\n"), "a\nb\\u{1b}\n");
        let json = escaped(&serde_json::to_string(nasty).unwrap());
        assert!(!json.contains(char::is_control), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), nasty);
    }

    /// YAML says the same as JSON, and no string in it can be taken for something else.
    #[test]
    fn yaml_of_json() {
        let value = json!({
            "name": "greeter", "version": "1.0.0", "empty": [], "on": true, "odd": "no", "t": "a: b",
            "nodes": [{ "id": "a", "weight": 100, "tags": ["x", "z"] }, [1, [2]], {}],
        });
        let mut out = String::new();
        write_yaml(&mut out, &value, 0, false);
        let expected = "\
empty: []
name: greeter
nodes:
  - id: a
    tags:
      - x
      - z
    weight: 100
  - - 1
    - - 2
  - {}
odd: \"no\"
\"on\": true
t: \"a: b\"
version: \"1.0.0\"
";
        assert_eq!(out, expected);
    }
}
