//! Says whether this host's KVM can run Linux user space, and how long it took to find out.

use std::time::Instant;

use vmm_core::probe::{self, Probe};

fn main() {
    let start = Instant::now();
    let answer = probe::probe(probe::TIME_LIMIT);
    let elapsed = start.elapsed();
    match answer {
        Probe::Usable => println!("usable, found out in {elapsed:?}"),
        Probe::Unusable(defect) => println!("unusable, found out in {elapsed:?}: {defect}"),
        Probe::Unavailable(error) => println!("unavailable, found out in {elapsed:?}: {error}"),
    }
}
