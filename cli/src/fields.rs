//! Arguments of methods as flags of the program: `micro call greeter.hello --name Ann`.

use std::ffi::OsString;

use clap::Command;

/// The command line with each flag that the command itself does not have turned into
/// `--field NAME=VALUE`, for the commands that take fields. A flag without a value is `true`.
///
/// An argument that is named as a flag of the program is given as a field: `--field timeout=5`.
pub(crate) fn marked(
    arguments: impl IntoIterator<Item = OsString>,
    program: &Command,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter().peekable();
    let mut marked: Vec<OsString> = arguments.next().into_iter().collect();
    let mut command = None;
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str() else {
            marked.push(argument);
            continue;
        };
        if command.is_none() && !text.starts_with('-') {
            command = program.find_subcommand(text).filter(|command| takes_fields(command));
            if command.is_none() && program.find_subcommand(text).is_some() {
                marked.push(argument);
                break;
            }
        }
        let flag = text.strip_prefix("--").filter(|flag| !flag.is_empty());
        let (Some(flag), Some(command)) = (flag, command) else {
            let is_end = text == "--";
            marked.push(argument);
            if is_end {
                break;
            }
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if is_known(name, command, program) {
            marked.push(argument);
            continue;
        }
        let value = value.map(OsString::from).or_else(|| arguments.next_if(is_value));
        let mut field = OsString::from(format!("--field={name}="));
        field.push(value.unwrap_or_else(|| "true".into()));
        marked.push(field);
    }
    marked.extend(arguments);
    marked
}

/// A field as `--field` has it.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether this follows a flag as its value: what begins with `-` is a flag too, unless it is a
/// number, or `-` alone.
fn is_value(next: &OsString) -> bool {
    match next.to_string_lossy().strip_prefix('-') {
        Some(rest) => rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'),
        None => true,
    }
}

fn takes_fields(command: &Command) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some("field"))
}

fn is_known(name: &str, command: &Command, program: &Command) -> bool {
    let mut known = command.get_arguments().chain(program.get_arguments());
    name == "help" || known.any(|argument| argument.get_long() == Some(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Program;

    /// Flags of the program stay, others are fields of the commands that take them.
    #[test]
    fn unknown_flags_are_fields() {
        for (line, expected) in [
            ("micro call a.b --name Ann", "micro call a.b --field=name=Ann"),
            ("micro call a.b --name=Ann -v", "micro call a.b --field=name=Ann -v"),
            ("micro call --name Ann a.b", "micro call --field=name=Ann a.b"),
            ("micro call a.b --gift --n -5", "micro call a.b --field=gift=true --field=n=-5"),
            ("micro call a.b --name -v", "micro call a.b --field=name=true -v"),
            ("micro call a.b --x -.5 --in -", "micro call a.b --field=x=-.5 --field=in=-"),
            ("micro call a.b --version 2", "micro call a.b --field=version=2"),
            ("micro call a.b --last", "micro call a.b --field=last=true"),
            ("micro call a.b --timeout 1s", "micro call a.b --timeout 1s"),
            ("micro call a.b --registry x", "micro call a.b --registry x"),
            ("micro --registry call call a.b --x 1", "micro --registry call call a.b --field=x=1"),
            ("micro call a.b --field timeout=1", "micro call a.b --field timeout=1"),
            ("micro call a.b -- --name", "micro call a.b -- --name"),
            ("micro services --name Ann", "micro services --name Ann"),
        ] {
            let words = line.split(' ').map(OsString::from);
            let marked = marked(words, &Program::command());
            let marked: Vec<_> = marked.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(marked.join(" "), expected);
        }
    }
}
