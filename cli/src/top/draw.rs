//! The screen: a line about all of it, the table, a line about keys.

use std::time::Duration;

use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::rows::{Fold, Grade, Row};
use super::state::State;
use crate::duration;

/// What the screen shows besides the rows.
#[derive(Clone, Debug)]
pub(super) struct Around {
    /// The registry, how many services and nodes there are, how often it looks.
    pub(super) title: String,
    /// Why what is shown may be out of date.
    pub(super) warning: Option<String>,
    pub(super) has_color: bool,
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, around: &Around, rows: &[Row], state: &State) {
    let area = frame.area();
    let lines = screen(around, rows, state, (area.width.into(), area.height.into()));
    for (line, row) in lines.iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// The lines of a screen of so many columns and lines.
fn screen(
    around: &Around,
    rows: &[Row],
    state: &State,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let columns = columns(rows, width);
    let room = height.saturating_sub(3);
    let position = state.position(rows);
    // The selected row stays in the middle, but for the ends of the table.
    let first = position.saturating_sub(room / 2).min(rows.len().saturating_sub(room));
    let shown = rows.iter().enumerate().skip(first).take(room);
    let mut lines = vec![title(around, rows.len(), first, room), header(&columns)];
    lines.extend(shown.map(|(index, row)| {
        let line = table_line(row, &columns, around.has_color);
        if index == position { line.style(Modifier::REVERSED) } else { line }
    }));
    lines.resize_with(height.saturating_sub(1).max(2), Line::default);
    lines.push(footer(state));
    lines
}

/// The table alone, for those who have no screen.
pub(super) fn plain(rows: &[Row]) -> String {
    let columns = columns(rows, usize::MAX);
    let lines = rows.iter().map(|row| table_line(row, &columns, false));
    let lines = std::iter::once(header(&columns)).chain(lines);
    lines.map(|line| format!("{}\n", line.to_string().trim_end())).collect()
}

fn title(around: &Around, rows: usize, first: usize, room: usize) -> Line<'static> {
    let mut spans =
        vec![Span::styled("micro top", Modifier::BOLD), Span::raw(format!("  {}", around.title))];
    if rows > room {
        spans.push(Span::raw(format!("  {}-{} of {rows}", first + 1, (first + room).min(rows))));
    }
    if let Some(warning) = &around.warning {
        let style = if around.has_color { Color::Yellow.into() } else { Style::default() };
        spans.push(Span::styled(format!("  ! {warning}"), style));
    }
    Line::from(spans)
}

fn footer(state: &State) -> Line<'static> {
    if state.is_typing {
        return Line::raw(format!("filter: {}_   enter keeps it, esc drops it", state.filter));
    }
    let filter = match &*state.filter {
        "" => "/ filter".to_owned(),
        text => format!("/ filter: {text} (esc drops it)"),
    };
    let sort = state.sort.text();
    Line::raw(format!("q quit  up/down move  enter unfold  s sort: {sort}  {filter}"))
}

/// A column: its header, its width, its side, and what a row has there.
struct Column {
    name: &'static str,
    width: usize,
    is_number: bool,
    text: fn(&Row) -> String,
}

/// What the first column has at least, and what it has before others come.
const NAME: usize = 16;
const NAME_AND_ID: usize = 44;

impl Column {
    /// How much space there is after it.
    fn gap(&self) -> usize {
        if self.is_number { 1 } else { 2 }
    }
}

/// The columns that fit, the first of which takes what is left by the others.
fn columns(rows: &[Row], width: usize) -> Vec<Column> {
    let column = |name, is_number, text: fn(&Row) -> String| {
        let texts = rows.iter().map(|row| text(row).chars().count());
        let width = texts.chain([str::len(name)]).max().unwrap_or_default();
        Column { name, width, is_number, text }
    };
    let mut columns = vec![
        column("SERVICE/NODE/METHOD", false, name),
        column("VERSION", false, version),
        column("HEALTH", false, |row| row.health.clone()),
        column("CALLS/S", true, |row| rate(row.traffic.calls_per_second)),
        column("ERR/S", true, |row| rate(row.traffic.errors_per_second)),
        column("P50", true, |row| time(row.traffic.p50_ms)),
        column("P99", true, |row| time(row.traffic.p99_ms)),
        column("RUNNING", true, |row| of_load(row, |load| count(load.running))),
        column("QUEUED", true, |row| of_load(row, |load| count(load.queued))),
        column("SHED/S", true, |row| of_load(row, |load| rate(load.shed_per_second))),
    ];
    // Numbers that jump to and fro with their digits are hard to read.
    columns.iter_mut().filter(|c| c.is_number).for_each(|c| c.width = c.width.max(6));
    let others = |columns: &[Column]| {
        let widths = columns[1..].iter().map(|column| column.width + column.gap());
        widths.sum::<usize>() + columns[0].gap()
    };
    let wanted = columns[0].width;
    while others(&columns) + wanted.min(NAME_AND_ID) > width && columns.len() > 7 {
        columns.pop();
    }
    columns[1].width = columns[1].width.min(VERSION.max(width.saturating_sub(FULL)));
    columns[0].width = wanted.min(width.saturating_sub(others(&columns)).max(NAME));
    columns
}

/// How much of versions a narrow screen shows, and from which width on more of them.
const VERSION: usize = 14;
const FULL: usize = 100;

fn header(columns: &[Column]) -> Line<'static> {
    let cells = columns.iter().map(|column| Span::raw(cell(column, column.name)));
    Line::from_iter(cells).style(Modifier::BOLD)
}

fn table_line(row: &Row, columns: &[Column], has_color: bool) -> Line<'static> {
    let color = |column: &Column| match column.name {
        "HEALTH" => match row.grade {
            Grade::Good => Some(Color::Green),
            Grade::Doubtful => Some(Color::Yellow),
            Grade::Bad => Some(Color::Red),
        },
        "VERSION" if row.is_skewed => Some(Color::Yellow),
        "ERR/S" => row.traffic.errors_per_second.filter(|rate| *rate > 0.0).map(|_| Color::Red),
        _ => None,
    };
    let cells = columns.iter().map(|column| {
        let style = color(column).filter(|_| has_color).map(Style::from).unwrap_or_default();
        Span::styled(cell(column, &(column.text)(row)), style)
    });
    Line::from_iter(cells)
}

/// A text, cut or filled to the width of its column, with the gap to the next. What nodes say of
/// themselves gives no orders to the terminal.
fn cell(column: &Column, text: &str) -> String {
    let (width, gap) = (column.width, column.gap());
    let text = text.replace(char::is_control, "?");
    let text = match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    };
    match column.is_number {
        true => format!("{text:>width$}{:gap$}", ""),
        false => format!("{text:width$}{:gap$}", ""),
    }
}

fn name(row: &Row) -> String {
    let mark = match row.fold {
        Fold::Leaf => ' ',
        Fold::Folded => '+',
        Fold::Unfolded => '-',
    };
    format!("{:indent$}{mark} {}", "", row.name, indent = 2 * (row.path.len() - 1))
}

fn version(row: &Row) -> String {
    match row.is_skewed {
        true => format!("≠ {}", row.version),
        false => row.version.clone(),
    }
}

/// A rate in at most six letters.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 99_999.5 => format!("{rate:.0}"),
        Some(rate) => format!("{:.0}k", rate / 1000.0),
    }
}

fn time(millis: Option<f64>) -> String {
    let text = |millis: f64| duration::text(Duration::from_secs_f64(millis.max(0.0) / 1000.0));
    millis.map_or_else(|| "-".to_owned(), text)
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn of_load(row: &Row, text: fn(super::board::Load) -> String) -> String {
    row.load.map(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::board::tests::board;
    use super::super::rows::rows;
    use super::super::state::tests::press;
    use super::*;

    fn shown(state: &State, (width, height): (u16, u16), has_color: bool) -> TestBackend {
        let around =
            Around { title: "local  2 services, 4 nodes".to_owned(), warning: None, has_color };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let rows = rows(&board().report(), state);
        terminal.draw(|frame| draw(frame, &around, &rows, state)).unwrap();
        terminal.backend().clone()
    }

    /// A screen of 80 columns has what matters, a wide one all of it; versions that differ are marked,
    /// and what a node does not say is left open.
    #[test]
    fn two_sizes_of_screens() {
        let mut state = State::default();
        press(&mut state, "!v!");
        let narrow = shown(&state, (80, 10), false);
        assert_eq!(text(&narrow), NARROW);
        let wide = shown(&state, (116, 10), false);
        assert_eq!(text(&wide), WIDE);
    }

    /// However small the screen is, nothing goes wrong, and the selected row is on it.
    #[test]
    fn any_size() {
        let mut state = State::everything();
        press(&mut state, "vvvvvvvv");
        for width in 0..100 {
            for height in 0..12 {
                let backend = shown(&state, (width, height), true);
                let area = backend.buffer().area();
                let reversed = |y| (backend.buffer()[(0, y)].modifier).contains(Modifier::REVERSED);
                let is_there = (0..height).any(|y| width > 0 && reversed(y));
                assert_eq!(is_there, width > 0 && height > 3, "{area}");
            }
        }
    }

    /// Without colours there are none.
    #[test]
    fn colors_are_left_out() {
        for has_color in [false, true] {
            let backend = shown(&State::everything(), (80, 20), has_color);
            let is_plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset;
            assert_eq!(backend.buffer().content().iter().all(is_plain), !has_color);
        }
    }

    /// The lines of a screen, without the quotes around them and the space at their ends.
    fn text(backend: &TestBackend) -> String {
        let lines = backend.to_string();
        let lines = lines.lines().map(|line| line.trim_matches('"').trim_end());
        lines.map(|line| format!("\n{line}")).collect()
    }

    const NARROW: &str = "
micro top  local  2 services, 4 nodes
SERVICE/NODE/METHOD  VERSION        HEALTH       CALLS/S  ERR/S    P50    P99
- shop               ≠ 1.0.0 1.1.0  2/3 serving      410     10 5.39ms 9.91ms
  - 10.0.0.1:1 1     1.0.0          serving          105    5.0 5.28ms 9.91ms
      price                                          105    5.0 5.28ms 9.91ms
      stock/count                                      0      0      -      -
    10.0.0.1:2 2     1.1.0          hung               -      -      -      -
  + 10.0.0.1:3 3     1.1.0          serving          305    5.0 5.42ms 9.91ms
+ till               2.0.0          1/1 serving        -      -      -      -
q quit  up/down move  enter unfold  s sort: name  / filter";
    const WIDE: &str = "
micro top  local  2 services, 4 nodes
SERVICE/NODE/METHOD  VERSION        HEALTH       CALLS/S  ERR/S    P50    P99 RUNNING QUEUED SHED/S
- shop               ≠ 1.0.0 1.1.0  2/3 serving      410     10 5.39ms 9.91ms       6      4      0
  - 10.0.0.1:1 1     1.0.0          serving          105    5.0 5.28ms 9.91ms       3      2      0
      price                                          105    5.0 5.28ms 9.91ms
      stock/count                                      0      0      -      -
    10.0.0.1:2 2     1.1.0          hung               -      -      -      -       -      -      -
  + 10.0.0.1:3 3     1.1.0          serving          305    5.0 5.42ms 9.91ms       3      2      0
+ till               2.0.0          1/1 serving        -      -      -      -       -      -      -
q quit  up/down move  enter unfold  s sort: name  / filter";

    /// Whatever a node says of itself, no byte of it means something to a terminal.
    #[test]
    fn what_nodes_say_is_text() {
        let mut rows = rows(&board().report(), &State::everything());
        rows[0].name = "a\x1b[2J\u{9b}b\r\n".to_owned();
        rows[0].version = "\x07".to_owned();
        let text = plain(&rows);
        assert!(text.contains("- a?[2J?b??"), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
        assert_eq!(text.lines().count(), rows.len() + 1);
    }

    /// Rates keep to six letters.
    #[test]
    fn rates() {
        for (value, expected) in
            [(0.0, "0"), (0.333, "0.3"), (9.96, "10"), (1234.5, "1234"), (123_456.0, "123k")]
        {
            assert_eq!(rate(Some(value)), expected);
        }
    }
}
