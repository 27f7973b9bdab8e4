//! What somebody may have meant by a word that is unknown.

/// The known word that is probably meant: the one with the fewest slips, or else one that is longer.
/// All of them begin with `prefix`.
pub(crate) fn nearest(written: &str, prefix: &str, known: &[String]) -> Option<String> {
    let close = known.iter().map(|known| (distance(written, known), known)).min();
    let close = close.filter(|(slips, _)| *slips <= 1 + written.len() / 5).map(|(_, known)| known);
    let part = written.strip_prefix(prefix).filter(|part| part.len() > 2);
    let longer = || known.iter().find(|known| part.is_some_and(|part| known.contains(part)));
    close.or_else(longer).cloned()
}

/// How many characters are inserted, left out or exchanged (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (index, l) in left.chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, r) in right.chars().enumerate() {
            let exchanged = diagonal + usize::from(l != r);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
