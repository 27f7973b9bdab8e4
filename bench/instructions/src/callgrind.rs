//! What callgrind writes: how many instructions were executed of which line of which function.
//!
//! The format is described in valgrind's manual, "Callgrind Format Specification".

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

/// What an instruction belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place<'a> {
    /// The program, or the library.
    pub(crate) object: &'a str,
    /// The symbol.
    pub(crate) function: &'a str,
    /// The source file of the function.
    pub(crate) function_file: &'a str,
    /// That of the instruction, which is another if it comes of a function that was inlined.
    pub(crate) file: &'a str,
}

/// Sums up the instructions by place; those of what a function calls are not its own.
///
/// # Errors
///
/// If it is not what callgrind writes, or the sum is not the one it says itself.
pub(crate) fn own_instructions(text: &str) -> Result<HashMap<Place<'_>, u64>> {
    let (mut reader, mut costs) = (Reader::default(), HashMap::new());
    for (number, line) in text.lines().enumerate() {
        let cost = reader.read(line);
        if let Some((place, cost)) = cost.with_context(|| format!("line {}", number + 1))? {
            *costs.entry(place).or_default() += cost;
        }
    }
    let (sum, total) = (costs.values().sum::<u64>(), reader.total.context("it ends too early")?);
    ensure!(sum == total, "its lines sum up to {sum} instructions, and it says {total}");
    Ok(costs)
}

/// What the lines so far say of the next one.
#[derive(Default)]
struct Reader<'a> {
    objects: Names<'a>,
    files: Names<'a>,
    functions: Names<'a>,
    place: Place<'a>,
    /// The next line has what a call cost, which is in the lines of the function that was called.
    is_of_call: bool,
    total: Option<u64>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: &'a str) -> Result<Option<(Place<'a>, u64)>> {
        if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            return self.cost(line);
        }
        if let Some((key, value)) = line.split_once('=') {
            self.name(key, value)?;
        } else if let Some((key, value)) = line.split_once(':') {
            self.header(key, value.trim())?;
        }
        Ok(None)
    }

    fn name(&mut self, key: &str, value: &'a str) -> Result<()> {
        match key {
            "ob" => self.place.object = self.objects.get(value)?,
            "fl" | "fi" | "fe" => self.place.file = self.files.get(value)?,
            // The file is said before it, unless it is that of the line before.
            "fn" => {
                self.place.function = self.functions.get(value)?;
                self.place.function_file = self.place.file;
            }
            // Of what is called, whose names may be told here first.
            "cob" => drop(self.objects.get(value)?),
            "cfi" | "cfl" => drop(self.files.get(value)?),
            "cfn" => drop(self.functions.get(value)?),
            "calls" => self.is_of_call = true,
            _ => {}
        }
        Ok(())
    }

    fn header(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "positions" => ensure!(value == "line", "positions are {value}, not lines"),
            "events" => ensure!(value == "Ir", "it counts {value}, not instructions"),
            "totals" => self.total = Some(value.parse()?),
            _ => {}
        }
        Ok(())
    }

    fn cost(&mut self, line: &str) -> Result<Option<(Place<'a>, u64)>> {
        if std::mem::take(&mut self.is_of_call) {
            return Ok(None);
        }
        // A line of the source, which does not matter here, and what it cost, if anything.
        let cost = line.split_whitespace().nth(1).map_or(Ok(0), str::parse);
        Ok(Some((self.place, cost?)))
    }
}

/// A name is written once, with a number that stands for it afterwards.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    /// Takes `(1) name`, `(1)`, or a name without any number.
    fn get(&mut self, value: &'a str) -> Result<&'a str> {
        let Some((number, name)) = value.strip_prefix('(').and_then(|rest| rest.split_once(')'))
        else {
            return Ok(value);
        };
        match (name.trim_start(), self.0.get(number)) {
            ("", Some(name)) => Ok(name),
            ("", None) => bail!("nothing has the number {number}"),
            (name, _) => {
                self.0.insert(number, name);
                Ok(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "\
# callgrind format
version: 1
positions: line
events: Ir
summary: 28

ob=(1) /bin/program
fl=(1) a.rs
fn=(1) outer
10 3
+2 4
fi=(2) inlined.rs
5 6
fe=(1)
cob=(2) libc.so
cfi=(3) malloc.c
cfn=(2) malloc
calls=2 20
* 9000
* 1
fi=(2)
7 2

fn=(3) there
8 1

ob=(2)
fl=(3)
fn=(2)
20 8
-1
+1 3

totals: 28
";

    fn place(
        [object, function, function_file, file]: [&'static str; 4],
        cost: u64,
    ) -> (Place<'static>, u64) {
        (Place { object, function, function_file, file }, cost)
    }

    /// Each instruction counts where it lies: with the file it was inlined from, and not with callers.
    #[test]
    fn counts_where_instructions_lie() {
        let expected = [
            place(["/bin/program", "outer", "a.rs", "a.rs"], 8),
            place(["/bin/program", "outer", "a.rs", "inlined.rs"], 8),
            place(["/bin/program", "there", "inlined.rs", "inlined.rs"], 1),
            place(["libc.so", "malloc", "malloc.c", "malloc.c"], 11),
        ];
        assert_eq!(own_instructions(WRITTEN).unwrap(), HashMap::from(expected));
    }

    /// What is cut off, counts something else, or was misunderstood is an error, not a figure.
    #[test]
    fn refuses_what_it_cannot_sum_up() {
        for (from, to, why) in [
            ("totals: 28\n", "", "too early"),
            ("+2 4", "+2 5", "sum up to 29"),
            ("events: Ir", "events: Ir Dr", "counts Ir Dr"),
            ("positions: line", "positions: instr line", "instr line"),
            ("fn=(3) there", "fn=(3)", "number 3"),
            ("20 8", "20 eight", "line 30"),
        ] {
            let text = WRITTEN.replace(from, to);
            let error = own_instructions(&text).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{why}: {error:#}");
        }
    }
}
