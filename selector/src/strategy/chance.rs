//! Nodes at random.

use super::DRAWS;
use crate::{Candidates, Strategy};

/// Any node, all equally likely, but a newcomer less at first. Ignores weights.
#[derive(Debug)]
pub struct Random;

/// Any node, each as likely as it weighs; a newcomer is less likely at first.
#[derive(Debug)]
pub struct Weighted;

impl Strategy for Random {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let len = candidates.len();
        drawn(candidates, || (len > 0).then(|| fastrand::usize(..len)))
    }
}

impl Strategy for Weighted {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        drawn(candidates, || candidates.draw())
    }
}

/// A start drawn alone would favour the neighbour of a node the attempt may not go to; drawing
/// again does not.
fn drawn(candidates: &Candidates<'_>, draw: impl Fn() -> Option<usize>) -> Option<usize> {
    for _ in 0..DRAWS {
        let index = draw()?;
        if candidates.get(index).is_some_and(|node| candidates.takes_part(node)) {
            return Some(index);
        }
    }
    candidates.first_from(draw()?)
}
