//! What micro is to reach beside its peers, as ratios within one run.

use crate::{
    contender::Name,
    payload::Payload,
    report::{MemoryRow, Row},
    role::Load,
    rows::{self, Target},
};

/// The goals whose figures are there: those of `full`, which is what users get.
#[must_use]
pub fn goals(calls: &[Row], memory: &[MemoryRow]) -> Vec<rows::Row> {
    let calls = Calls(calls);
    let mut goals = calls.speed();
    goals.extend(calls.processor());
    goals.extend(calls.latency());
    goals.extend(calls.overhead());
    goals.extend(memory.iter().filter(|row| row.contender == Name::Full).map(idle));
    goals
}

struct Calls<'a>(&'a [Row]);

impl Calls<'_> {
    /// Calls per second; those with one in flight share a core with their server.
    fn speed(&self) -> Vec<rows::Row> {
        let at = |payload, in_flight| move |load: &Load| is_plain(load, payload, in_flight);
        let mut goals = Vec::new();
        for &(peers, least) in SPEED {
            for (in_flight, least) in [1, 64, 512].into_iter().zip(least) {
                let measure = format!("× {}, {in_flight} in flight", peers[0]);
                let speed =
                    self.beside(peers, at(SMALL, in_flight), |row| row.calls_per_s, f64::max);
                goals.extend(speed.map(|x| row("calls/s", measure, Target::Least(least), x)));
            }
        }
        for &(peers, least) in LARGE_SPEED {
            let measure = format!("× {}, 16 KiB, 64 in flight", peers[0]);
            let speed = self.beside(peers, at(LARGE, 64), |row| row.calls_per_s, f64::max);
            goals.extend(speed.map(|x| row("calls/s", measure, Target::Least(least), x)));
        }
        goals
    }

    /// CPU time per call, client and server together.
    fn processor(&self) -> Vec<rows::Row> {
        let mut goals = Vec::new();
        for &(peers, one, many) in PROCESSOR {
            for (payload, in_flight) in
                [(SMALL, 1), (SMALL, 64), (SMALL, 512), (KIB, 64), (KIB, 512)]
            {
                let most = if in_flight == 1 { one } else { Some(many) };
                let Some(most) = most else { continue };
                let at = |load: &Load| is_plain(load, payload, in_flight);
                let cpu = self.beside(peers, at, |row| row.cpu_us, f64::min);
                let measure = format!("× {}, {payload} B, {in_flight} in flight", peers[0]);
                goals.extend(cpu.map(|x| row("CPU per call", measure, Target::Most(most), x)));
            }
        }
        goals
    }

    /// The 99th percentile at equal load, beside the best peer's.
    fn latency(&self) -> Option<rows::Row> {
        let at = |load: &Load| load.rate.is_some();
        let x = self.beside(&PEERS, at, |row| row.p99_us, f64::min)?;
        Some(row("p99 at equal load", "× the best peer's".to_owned(), Target::Most(1.0), x))
    }

    /// What discovery, retries, metrics and deadlines cost.
    fn overhead(&self) -> Option<rows::Row> {
        let cpu = |name| {
            let row = |row: &&Row| row.contender == name && is_plain(&row.load, SMALL, 64);
            self.0.iter().find(row).map(|row| row.cpu_us)
        };
        let overhead = cpu(Name::Full)? - cpu(Name::Rpc)?;
        let measure = "µs more than rpc, 64 in flight".to_owned();
        Some(row("CPU per call", measure, Target::Most(1.0), overhead))
    }

    /// The column of `full` in proportion to that of the best of these peers, under such a load.
    fn beside(
        &self,
        peers: &[Name],
        is_meant: impl Fn(&Load) -> bool,
        column: fn(&Row) -> f64,
        better: fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let rows = || self.0.iter().filter(|row| is_meant(&row.load));
        let own = rows().find(|row| row.contender == Name::Full)?;
        let peers = rows().filter(|row| peers.contains(&row.contender));
        Some(column(own) / peers.map(column).reduce(better)?)
    }
}

fn idle(memory: &MemoryRow) -> rows::Row {
    let kib = memory.server_bytes / 1024.0;
    let measure = format!("KiB each, server, of {}", memory.connections);
    row("idle connections", measure, Target::Most(8.0), kib)
}

fn row(goal: &'static str, measure: String, target: Target, figure: f64) -> rows::Row {
    rows::Row::new(goal, measure, "full", target, vec![figure])
}

/// One connection at full speed; one call in flight is measured on one core, as a wake-up across
/// cores costs more than the call.
fn is_plain(load: &Load, payload: Payload, in_flight: usize) -> bool {
    let is_same = load.payload == payload && load.in_flight == in_flight;
    is_same && load.connections == 1 && load.rate.is_none() && load.one_core == (in_flight == 1)
}

const SMALL: Payload = Payload::Bytes(64);
const KIB: Payload = Payload::Bytes(1024);
const LARGE: Payload = Payload::Bytes(16 * 1024);

const RAW: &[Name] = &[Name::Raw];
const TARPC: &[Name] = &[Name::Tarpc];
const TONIC: &[Name] = &[Name::Tonic];
#[cfg(feature = "volo")]
const VOLO: &[Name] = &[Name::Volo, Name::VoloPool];
#[cfg(feature = "volo")]
const PEERS: [Name; 5] = [Name::Tarpc, Name::TarpcBest, Name::Tonic, Name::Volo, Name::VoloPool];
#[cfg(not(feature = "volo"))]
const PEERS: [Name; 3] = [Name::Tarpc, Name::TarpcBest, Name::Tonic];

/// At least so many times the calls per second, with 1, 64 and 512 in flight.
const SPEED: &[(&[Name], [f64; 3])] = &[
    (RAW, [0.9, 0.6, 0.3]),
    (TARPC, [2.0, 3.0, 4.0]),
    #[cfg(feature = "volo")]
    (VOLO, [1.5, 4.0, 8.0]),
    (TONIC, [2.5, 8.0, 10.0]),
];

/// The same with 64 calls of 16 KiB in flight.
const LARGE_SPEED: &[(&[Name], f64)] = &[(RAW, 0.8), (TARPC, 2.0), (TONIC, 3.5)];

/// At most so many times the CPU time, with one call in flight and with more.
const PROCESSOR: &[(&[Name], Option<f64>, f64)] = &[
    (RAW, Some(1.4), 2.3),
    (TARPC, Some(0.6), 0.28),
    #[cfg(feature = "volo")]
    (VOLO, None, 0.13),
    (TONIC, Some(0.25), 0.09),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Window;
    use crate::process::{Measured, Memory};

    fn measured(contender: Name, load: Load, calls: u64, cpu_us: f64, p99_us: f64) -> Row {
        let client = Window { calls, seconds: 1.0, p50_us: 1.0, p99_us, p999_us: 1.0, cpu_us };
        Row::new(contender, load, &[Measured { client, server_cpu_us: cpu_us }])
    }

    fn load(in_flight: usize) -> Load {
        let one_core = in_flight == 1;
        Load { payload: SMALL, in_flight, connections: 1, one_core, rate: None, seconds: 1.0 }
    }

    fn figures(goals: &[rows::Row]) -> Vec<(&str, &str, f64, bool)> {
        goals.iter().map(|row| (row.goal, &*row.measure, row.figure, row.met)).collect()
    }

    /// Goals are ratios under the very same load, and those without figures are left out.
    #[test]
    fn ratios_within_a_load() {
        let rows = [
            measured(Name::Raw, load(64), 1_000, 1.0, 1.0),
            measured(Name::Full, load(64), 500, 2.0, 1.0),
            measured(Name::Raw, load(512), 100, 1.0, 1.0),
        ];
        let goals = goals(&rows, &[]);
        let expected = [
            ("calls/s", "× raw, 64 in flight", 0.5, false),
            ("CPU per call", "× raw, 64 B, 64 in flight", 2.0, true),
        ];
        assert_eq!(figures(&goals), expected);
    }

    /// One call in flight counts on one core only, and latency at equal load beside the best peer.
    #[test]
    fn loads_that_count() {
        let unpinned = Load { one_core: false, ..load(1) };
        let open = Load { rate: Some(10), ..load(64) };
        let rows = [
            measured(Name::Raw, unpinned, 1_000, 1.0, 1.0),
            measured(Name::Full, unpinned, 1_000, 1.0, 1.0),
            measured(Name::Full, open, 10, 1.0, 30.0),
            measured(Name::Tarpc, open, 10, 1.0, 20.0),
            measured(Name::Tonic, open, 10, 1.0, 40.0),
        ];
        let memory = Memory { server: 4096.0, client: 0.0 };
        let goals = goals(&rows, &[MemoryRow::new(Name::Full, 10, memory)]);
        let expected = [
            ("p99 at equal load", "× the best peer's", 1.5, false),
            ("idle connections", "KiB each, server, of 10", 4.0, true),
        ];
        assert_eq!(figures(&goals), expected);
    }
}
