//! Medians over the rounds, as a table or as JSON.

use serde::Serialize;

use crate::scenario::{Sample, Scenario};

/// One proxy in one scenario.
pub struct Row {
    pub name: &'static str,
    pub rounds: Vec<Sample>,
}

#[derive(Serialize)]
struct Line {
    scenario: &'static str,
    proxy: &'static str,
    rounds: usize,
    per_second: f64,
    cpu_us: f64,
    cpu_us_min: f64,
    cpu_us_max: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
}

#[derive(Serialize)]
struct Memory {
    scenario: &'static str,
    proxy: &'static str,
    resident_before_kib: u64,
    kib_each: f64,
}

fn print_memory(scenario: Scenario, rows: &[Row], json: bool) {
    if !json {
        println!(
            "\n{} — {}\n{:<10} {:>20} {:>10}",
            scenario.name(),
            scenario.unit(),
            "",
            "resident before KiB",
            "KiB each"
        );
    }
    for row in rows {
        let Some((resident_before_kib, kib_each)) = row.rounds.first().and_then(|round| round.memory_kib)
        else {
            continue;
        };
        let line = Memory { scenario: scenario.name(), proxy: row.name, resident_before_kib, kib_each };
        match json {
            true => println!("{}", serde_json::to_string(&line).unwrap_or_default()),
            false => println!("{:<10} {:>20} {:>10.1}", line.proxy, line.resident_before_kib, line.kib_each),
        }
    }
}

/// Prints what the scenario measured.
pub fn print(scenario: Scenario, rows: &[Row], json: bool) {
    if scenario.is_once() {
        return print_memory(scenario, rows, json);
    }
    if !json {
        println!("\n{} — {}", scenario.name(), scenario.unit());
        println!(
            "{:<10} {:>12} {:>10} {:>19} {:>9} {:>9} {:>6}",
            "", "per second", "CPU µs", "(min..max)", "p50 µs", "p99 µs", "errors"
        );
    }
    for row in rows {
        let cpu: Vec<f64> = row.rounds.iter().map(Sample::cpu_us).collect();
        let line = Line {
            scenario: scenario.name(),
            proxy: row.name,
            rounds: row.rounds.len(),
            per_second: median(row.rounds.iter().map(Sample::per_second)),
            cpu_us: median(cpu.iter().copied()),
            cpu_us_min: cpu.iter().copied().fold(f64::INFINITY, f64::min),
            cpu_us_max: cpu.iter().copied().fold(0.0, f64::max),
            p50_us: median(row.rounds.iter().map(|sample| sample.percentile(0.5))),
            p99_us: median(row.rounds.iter().map(|sample| sample.percentile(0.99))),
            errors: row.rounds.iter().map(|sample| sample.errors).sum(),
        };
        if json {
            println!("{}", serde_json::to_string(&line).unwrap_or_default());
        } else {
            let spread = format!("({:.1}..{:.1})", line.cpu_us_min, line.cpu_us_max);
            println!(
                "{:<10} {:>12.1} {:>10.2} {:>19} {:>9.0} {:>9.0} {:>6}",
                line.proxy, line.per_second, line.cpu_us, spread, line.p50_us, line.p99_us, line.errors
            );
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
