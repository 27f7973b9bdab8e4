//! The terminal: keys and answers in, frames out.

use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures::StreamExt;
use micro::Signals;
use micro::registry::Watch;
use ratatui::DefaultTerminal;
use tokio::time::{MissedTickBehavior, interval};

use super::board::Board;
use super::draw::{Around, draw};
use super::rows::{Row, rows};
use super::scrapes::Scrapes;
use super::state::{Flow, State};
use crate::failure::{End, Failure};
use crate::print;

/// Shows what is known until somebody quits.
pub(super) async fn run(
    mut board: Board,
    mut updates: Watch,
    registry: &str,
    every: Duration,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut screen = Screen::take()?;
    let mut keys = EventStream::new();
    let mut scrapes = Scrapes::new();
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Answers come one by one, and nobody sees more frames than these.
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = State::default();
    let mut is_current = false;
    let mut shown = screen.show(&board, &state, registry, every)?;
    loop {
        tokio::select! {
            key = keys.next() => {
                match key.transpose()? {
                    Some(Event::Key(key)) if state.press(key, &shown) == Flow::Quit => return Ok(()),
                    Some(_) => shown = screen.show(&board, &state, registry, every)?,
                    None => return Ok(()),
                }
            }
            _ = signals.next() => return Ok(()),
            update = updates.next() => {
                let gone = || Failure::new(End::Unavailable, "the registry is gone");
                board.apply(&update.ok_or_else(gone)?);
                is_current = false;
            }
            Some((key, at, answer)) = scrapes.next() => {
                board.hear(key, at, answer);
                is_current = false;
            }
            _ = looks.tick() => scrapes.begin(&board),
            _ = frames.tick(), if !is_current => {
                shown = screen.show(&board, &state, registry, every)?;
                is_current = true;
            }
        }
    }
}

const FRAME: Duration = Duration::from_millis(100);

/// The terminal while it is ours. It is given back when this is dropped, and, by a hook, before the
/// message of a panic.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn take() -> Result<Self, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                ratatui::restore();
                Err(error.into())
            }
        }
    }

    /// Shows what is known, and returns the rows that were shown.
    fn show(
        &mut self,
        board: &Board,
        state: &State,
        registry: &str,
        every: Duration,
    ) -> Result<Vec<Row>, Failure> {
        let report = board.report();
        let nodes: usize = report.iter().map(|service| service.nodes.len()).sum();
        let services = report.len();
        let around = Around {
            title: format!("{registry}  {services} services, {nodes} nodes, every {every:?}"),
            warning: board.stale.as_ref().map(|why| format!("the registry is out of reach: {why}")),
            has_color: print::is_colored(true),
        };
        let rows = rows(&report, state);
        self.terminal.draw(|frame| draw(frame, &around, &rows, state))?;
        Ok(rows)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
