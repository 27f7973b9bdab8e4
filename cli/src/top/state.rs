//! Where somebody is in the table, and what keys do to that.

use std::collections::BTreeSet;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::{Fold, Row};

/// Where somebody is in the table.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The rows below which something is shown.
    pub(super) unfolded: BTreeSet<Vec<String>>,
    /// Whether that is all of them.
    shows_everything: bool,
    selected: Option<Vec<String>>,
    /// Where the selected row was, for when it is gone.
    position: usize,
    pub(super) sort: Sort,
    /// What rows have to have in their text.
    pub(super) filter: String,
    /// Whether what is typed goes into the filter.
    pub(super) is_typing: bool,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    Calls,
    Errors,
    P99,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Quit,
}

impl State {
    /// Everything unfolded, for those who cannot press keys.
    pub(super) fn everything() -> Self {
        Self { shows_everything: true, ..Self::default() }
    }

    pub(super) fn is_unfolded(&self, path: &Vec<String>) -> bool {
        self.shows_everything || self.unfolded.contains(path)
    }

    /// Which of these rows is selected: the one that was, or, if it is gone, what took its place.
    pub(super) fn position(&self, rows: &[Row]) -> usize {
        let is_it = |row: &Row| Some(&row.path) == self.selected.as_ref();
        let found = rows.iter().position(is_it);
        found.unwrap_or_else(|| self.position.min(rows.len().saturating_sub(1)))
    }

    /// What a key does, while these rows are shown.
    pub(super) fn press(&mut self, key: KeyEvent, rows: &[Row]) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Continue;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Flow::Quit,
            KeyCode::Up => self.step(rows, -1),
            KeyCode::Down => self.step(rows, 1),
            code if self.is_typing => self.edit(code),
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('k') => self.step(rows, -1),
            KeyCode::Char('j') => self.step(rows, 1),
            KeyCode::Enter | KeyCode::Char(' ') => self.fold(rows),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        Flow::Continue
    }

    fn edit(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn step(&mut self, rows: &[Row], by: isize) {
        let last = rows.len().saturating_sub(1);
        self.position = self.position(rows).saturating_add_signed(by).min(last);
        self.selected = rows.get(self.position).map(|row| row.path.clone());
    }

    fn fold(&mut self, rows: &[Row]) {
        self.step(rows, 0);
        match rows.get(self.position) {
            Some(row) if row.fold == Fold::Folded => drop(self.unfolded.insert(row.path.clone())),
            Some(row) => drop(self.unfolded.remove(&row.path)),
            None => {}
        }
    }
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Calls,
            Self::Calls => Self::Errors,
            Self::Errors => Self::P99,
            Self::P99 => Self::Name,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Calls => "calls",
            Self::Errors => "errors",
            Self::P99 => "p99",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::board::tests::board;
    use super::super::rows::rows;
    use super::*;

    /// Presses each of these, of which `^` is up, `v` down, `!` enter, `<` backspace, `%` escape.
    pub(in crate::top) fn press(state: &mut State, keys: &str) -> Flow {
        let report = board().report();
        let mut flow = Flow::Continue;
        for key in keys.chars() {
            let code = match key {
                '^' => KeyCode::Up,
                'v' => KeyCode::Down,
                '!' => KeyCode::Enter,
                '<' => KeyCode::Backspace,
                '%' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            flow = state.press(KeyEvent::from(code), &rows(&report, state));
        }
        flow
    }

    fn selected(state: &State) -> String {
        let rows = rows(&board().report(), state);
        rows[state.position(&rows)].name.clone()
    }

    /// Up and down stay within the rows, enter unfolds and folds.
    #[test]
    fn moving_and_folding() {
        let mut state = State::default();
        press(&mut state, "^^");
        assert_eq!(selected(&state), "shop");
        press(&mut state, "!vvv!v");
        assert_eq!(selected(&state), "price");
        press(&mut state, "vvvvv");
        assert_eq!(selected(&state), "till");
        press(&mut state, "^^^!^^^!");
        assert_eq!(selected(&state), "shop");
        assert_eq!(rows(&board().report(), &state).len(), 2);
    }

    /// What is selected stays so when rows move, and what took its place is when it is gone.
    #[test]
    fn a_selection_follows_its_row() {
        let mut state = State::default();
        press(&mut state, "!vvvs");
        assert_eq!(selected(&state), "10.0.0.1:3 3");
        press(&mut state, "/till!");
        assert_eq!(selected(&state), "till");
        press(&mut state, "%");
        assert_eq!(selected(&state), "10.0.0.1:3 3");
    }

    /// Once `/` was pressed keys are text, until enter keeps it or escape drops it.
    #[test]
    fn typing_a_filter() {
        let mut state = State::default();
        assert_eq!(press(&mut state, "/qs<v"), Flow::Continue);
        assert_eq!((&*state.filter, state.is_typing), ("q", true));
        press(&mut state, "!");
        assert_eq!((&*state.filter, state.is_typing), ("q", false));
        press(&mut state, "%/x%");
        assert_eq!((&*state.filter, state.is_typing), ("", false));
        assert_eq!(press(&mut state, "q"), Flow::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        state.is_typing = true;
        assert_eq!(state.press(control_c, &[]), Flow::Quit);
    }

    /// `s` goes round.
    #[test]
    fn sorting_goes_round() {
        let mut state = State::default();
        let mut sorts = Vec::new();
        for _ in 0..4 {
            sorts.push(state.sort.text());
            press(&mut state, "s");
        }
        assert_eq!(sorts, ["name", "calls", "errors", "p99"]);
        assert_eq!(state.sort, Sort::Name);
    }

    /// Without rows there is nothing to select, and no key goes wrong.
    #[test]
    fn an_empty_table() {
        let mut state = State::default();
        for code in [KeyCode::Up, KeyCode::Down, KeyCode::Enter] {
            assert_eq!(state.press(KeyEvent::from(code), &[]), Flow::Continue);
        }
        assert_eq!(state.position(&[]), 0);
    }
}
