//! What came out, for people to read.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::{Line, Profile};

/// What the suite found out about a backend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What was asked of the backend.
    pub profile: Profile,
    /// The cases, in the order of the contract's lines.
    pub cases: Vec<CaseReport>,
    /// How long all of it took.
    pub took: Duration,
}

/// What came of one case.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CaseReport {
    /// Its name.
    pub name: &'static str,
    /// The line of the contract it shows.
    pub line: Line,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The backend keeps the line, as far as the case can tell.
    Kept,
    /// The case did not apply, for this reason.
    Skipped(String),
    /// The backend broke a line.
    #[non_exhaustive]
    Broken {
        /// The broken one: most often the line of the case, and another when that stood in its way.
        line: Line,
        /// What happened.
        what: String,
    },
}

impl Report {
    /// The lines that were broken.
    pub fn broken_lines(&self) -> BTreeSet<Line> {
        let line = |case: &CaseReport| match case.outcome {
            Outcome::Broken { line, .. } => Some(line),
            _ => None,
        };
        self.cases.iter().filter_map(line).collect()
    }

    /// Whether no line was broken.
    pub fn is_kept(&self) -> bool {
        self.broken_lines().is_empty()
    }

    fn count(&self, is_so: impl Fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| is_so(&case.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "registry contract; profile: {}", self.profile)?;
        for case in &self.cases {
            writeln!(f, "{case}")?;
        }
        let broken = |outcome: &Outcome| matches!(outcome, Outcome::Broken { .. });
        write!(
            f,
            "{} kept, {} skipped, {} broken, in {:.1?}",
            self.count(|outcome| *outcome == Outcome::Kept),
            self.count(|outcome| matches!(outcome, Outcome::Skipped(_))),
            self.count(broken),
            self.took
        )?;
        for case in self.cases.iter().filter(|case| broken(&case.outcome)) {
            if let Outcome::Broken { line, what } = &case.outcome {
                write!(f, "\n{line} broken by case {:?}: {what}", case.name)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, took) = (self.line.number(), format!("{} ms", self.took.as_millis()));
        let (word, what) = match &self.outcome {
            Outcome::Kept => ("kept", took),
            Outcome::Skipped(why) => ("skipped", why.clone()),
            Outcome::Broken { .. } => ("BROKEN", took),
        };
        write!(f, "  {word:<8} line {number:>2}  {:<40} {what}", self.name)
    }
}
