//! Pictures of the rows, as SVG: bars at 64 calls in flight, and latency by calls in flight.
//!
//! They are written here, without fonts or scripts of others, and have a background of their own, so
//! that they can be read on light and on dark pages.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use crate::{payload::Payload, report::Row, role::Load};

/// Writes the pictures that these rows are enough for into a directory, which is made.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(directory: &Path, rows: &[Row]) -> Result<()> {
    let say = || format!("cannot write pictures to {}", directory.display());
    fs::create_dir_all(directory).with_context(say)?;
    let plain: Vec<_> = rows.iter().filter(|row| is_plain(&row.load)).collect();
    let at_64: Vec<_> = plain.iter().copied().filter(|row| row.load.in_flight == 64).collect();
    let pictures = [
        ("calls-per-second.svg", bars("Calls per second: 64 bytes, 64 in flight", &at_64, SPEED)),
        ("cpu-per-call.svg", bars("CPU µs per call: 64 bytes, 64 in flight", &at_64, PROCESSOR)),
        ("latency-p50.svg", curves("Median latency: 64 bytes", &plain, |row| row.p50_us)),
        (
            "latency-p99.svg",
            curves("99th percentile of latency: 64 bytes", &plain, |row| row.p99_us),
        ),
        (
            "latency-p999.svg",
            curves("99.9th percentile of latency: 64 bytes", &plain, |row| row.p999_us),
        ),
    ];
    for (name, picture) in pictures {
        if let Some(picture) = picture {
            fs::write(directory.join(name), picture).with_context(say)?;
        }
    }
    Ok(())
}

/// 64 bytes over one connection, on all cores, as fast as it goes.
fn is_plain(load: &Load) -> bool {
    let Load { payload, connections, one_core, rate, .. } = *load;
    payload == Payload::Bytes(64) && connections == 1 && !one_core && rate.is_none()
}

/// The parts that a bar has, each with its name.
type Parts = &'static [(&'static str, fn(&Row) -> f64)];

const SPEED: Parts = &[("", |row| row.calls_per_s)];
const PROCESSOR: Parts =
    &[("client", |row| row.cpu_us_client), ("server", |row| row.cpu_us_server)];

/// One bar for each row, with its figure behind it.
fn bars(title: &str, rows: &[&Row], parts: Parts) -> Option<String> {
    let sum = |row: &Row| parts.iter().map(|(_, part)| part(row)).sum::<f64>();
    let most = rows.iter().map(|row| sum(row)).max_by(f64::total_cmp)?;
    let height = TOP + BAR * rows.len() as f64 + 16.0;
    let mut picture = begin(title, height);
    for (number, (name, _)) in parts.iter().enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        let x = WIDTH - 170.0 + 80.0 * number as f64;
        let colour = COLOURS[number];
        put(&mut picture, format!("<rect x='{x}' y='18' width='12' height='12' fill='{colour}'/>"));
        put(&mut picture, text(x + 17.0, 29.0, "start", name));
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + BAR * number as f64;
        put(&mut picture, text(LEFT - 8.0, y + 16.0, "end", &row.contender.to_string()));
        let mut x = LEFT;
        for ((_, part), colour) in parts.iter().zip(COLOURS) {
            let width = (WIDTH - LEFT - 100.0) * part(row) / most;
            put(
                &mut picture,
                format!(
                    "<rect x='{x:.1}' y='{y}' width='{width:.1}' height='{}' fill='{colour}'/>",
                    BAR - 6.0
                ),
            );
            x += width;
        }
        put(&mut picture, text(x + 6.0, y + 16.0, "start", &figure(sum(row))));
    }
    Some(picture + "</svg>\n")
}

/// One curve for each contender, over the calls in flight, both axes logarithmic.
fn curves(title: &str, rows: &[&Row], column: fn(&Row) -> f64) -> Option<String> {
    let in_flight: Vec<_> = numbers(rows.iter().map(|row| row.load.in_flight));
    let (first, last) = (*in_flight.first()?, *in_flight.last()?);
    let contenders = rows.iter().map(|row| row.contender);
    let least = rows.iter().map(|row| column(row)).min_by(f64::total_cmp)?;
    let most = rows.iter().map(|row| column(row)).max_by(f64::total_cmp)?;
    let decades = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let (right, bottom) = (WIDTH - 120.0, TOP + 300.0);
    let x = |calls: usize| {
        let whole = (last as f64 / first as f64).ln().max(f64::MIN_POSITIVE);
        60.0 + (right - 60.0) * (calls as f64 / first as f64).ln() / whole
    };
    let y = |us: f64| bottom - (bottom - TOP) * (us.log10() - decades.0) / (decades.1 - decades.0);

    let mut picture = begin(title, bottom + 44.0);
    for decade in decades.0 as i32..=decades.1 as i32 {
        let us = 10f64.powi(decade);
        put(&mut picture, line((60.0, y(us)), (right, y(us)), GRID));
        put(&mut picture, text(54.0, y(us) + 4.0, "end", &decade_name(decade)));
    }
    for calls in &in_flight {
        put(&mut picture, line((x(*calls), TOP), (x(*calls), bottom), GRID));
        put(&mut picture, text(x(*calls), bottom + 18.0, "middle", &calls.to_string()));
    }
    put(&mut picture, text((60.0 + right) / 2.0, bottom + 36.0, "middle", "calls in flight"));

    let mut labels = f64::MIN;
    let mut ends: Vec<_> = Vec::new();
    for (number, contender) in unique(contenders).into_iter().enumerate() {
        let of_it = rows.iter().filter(|row| row.contender == contender);
        let mut points: Vec<_> = of_it.map(|row| (x(row.load.in_flight), y(column(row)))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let colour = COLOURS[number % COLOURS.len()];
        let joined: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        put(
            &mut picture,
            format!(
                "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
                joined.trim_end()
            ),
        );
        ends.extend(points.last().map(|(_, y)| (*y, contender, colour)));
    }
    // Labels beside the ends of their curves, without covering each other.
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (y, contender, colour) in ends {
        labels = (y + 4.0).max(labels + 14.0);
        let label = text(right + 8.0, labels, "start", &contender.to_string());
        put(&mut picture, label.replace("<text", &format!("<text style='fill:{colour}'")));
    }
    Some(picture + "</svg>\n")
}

fn begin(title: &str, height: f64) -> String {
    let mut picture = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' \
         viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='13'>\n\
         <style>.back{{fill:#ffffff}}text{{fill:#24292f}}\
         @media(prefers-color-scheme:dark){{.back{{fill:#1c2128}}text{{fill:#d8dee4}}}}</style>\n\
         <rect class='back' width='{WIDTH}' height='{height}' rx='6'/>\n"
    );
    put(&mut picture, format!("<text x='16' y='29' font-size='15'>{title}</text>"));
    picture
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{text}</text>")
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    format!("<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='{colour}'/>")
}

fn put(picture: &mut String, element: String) {
    writeln!(picture, "{element}").expect("a string takes all text");
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A power of ten of microseconds.
fn decade_name(decade: i32) -> String {
    let (number, unit) = match decade {
        ..=2 => (decade, "µs"),
        3..=5 => (decade - 3, "ms"),
        6.. => (decade - 6, "s"),
    };
    format!("{} {unit}", 10f64.powi(number))
}

fn numbers(numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn unique<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut seen, one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
        seen
    })
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 100.0;
const TOP: f64 = 48.0;
const BAR: f64 = 28.0;
const GRID: &str = "#88888855";
/// They are told apart, and from both backgrounds.
const COLOURS: [&str; 10] = [
    "#8a8f98", "#2f81f7", "#e5534b", "#b083f0", "#d4a72c", "#2da44e", "#9acd32", "#e0823d",
    "#1b9aaa", "#d16ba5",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contender::Name, measure::Window, process::Measured};

    fn row(contender: Name, in_flight: usize) -> Row {
        let load = Load {
            payload: Payload::Bytes(64),
            in_flight,
            connections: 1,
            one_core: false,
            rate: None,
            seconds: 1.0,
        };
        let client = Window {
            calls: 10,
            seconds: 1.0,
            p50_us: 20.0,
            p99_us: 90.0,
            p999_us: 950.0,
            cpu_us: 3.0,
        };
        Row::new(contender, load, &[Measured { client, server_cpu_us: 2.0 }])
    }

    /// Every contender has a bar or a curve, and what there are no rows for is left out.
    #[test]
    fn pictures_of_what_there_is() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &[row(Name::Raw, 1), row(Name::Full, 8)]).expect("it writes");
        let read = |name: &str| fs::read_to_string(directory.path().join(name));
        assert!(read("cpu-per-call.svg").is_err());
        let curves = read("latency-p999.svg").expect("a picture");
        assert_eq!(curves.matches("<polyline").count(), 2, "{curves}");
        assert!(curves.contains(">100 µs<") && curves.contains(">1 ms<"), "{curves}");
        write(directory.path(), &[row(Name::Raw, 64), row(Name::Full, 64)]).expect("it writes");
        let bars = read("cpu-per-call.svg").expect("a picture");
        assert!(
            bars.contains(">raw<") && bars.contains(">full<") && bars.contains(">5.00<"),
            "{bars}"
        );
    }
}
