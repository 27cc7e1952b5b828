//! Whether memory stays flat under load of all kinds, for as long as is asked for.

use std::time::{Duration, Instant};

use crate::Result;
use crate::cpu::resident_kib;
use crate::scenario::{self, Scenario};
use crate::subject::{Subject, World};

/// Each scenario runs this long, again and again.
const TURN: Duration = Duration::from_millis(500);
/// What the allocator may keep more at the end than after the first tenth, before it is called growth.
const SLACK: f64 = 1.1;

/// Runs every scenario in turn for `length`, at rest between two for `rest`, and prints the resident memory once a
/// minute. An error if it is not flat: more than [`SLACK`] times what it was after the first tenth.
pub async fn run(subject: &Subject, world: &World, length: Duration, rest: Duration) -> Result<()> {
    let turns = scenario::ALL.iter().filter(|one| !one.is_once() && !one.is_bulk() && one.suits(subject));
    let started = Instant::now();
    let (mut done, mut errors, mut warm, mut peak, mut printed) = (0.0, 0, None, 0, 0);
    println!("{:>8} {:>14} {:>8} {:>14}", "minute", "passed", "errors", "resident KiB");
    for turn in turns.cycle() {
        let sample = Scenario::round(*turn, subject, world, TURN).await?;
        (done, errors) = (done + sample.count, errors + sample.errors);
        tokio::time::sleep(rest).await;
        let (elapsed, resident) = (started.elapsed(), subject.process().map_or(0, resident_kib));
        if elapsed * 10 > length {
            warm.get_or_insert(resident);
            peak = peak.max(resident);
        }
        let minute = elapsed.as_secs() / 60;
        if minute > printed || elapsed >= length {
            printed = minute;
            println!("{minute:>8} {done:>14.0} {errors:>8} {resident:>14}");
        }
        if elapsed >= length {
            break;
        }
    }
    let warm = warm.unwrap_or(peak);
    println!("after the first tenth {warm} KiB, at most {peak} KiB since");
    if errors > 0 || done == 0.0 {
        return Err(format!("{errors} errors, {done} passed").into());
    }
    if peak as f64 > warm as f64 * SLACK {
        return Err(format!("memory grew from {warm} to {peak} KiB").into());
    }
    Ok(())
}
