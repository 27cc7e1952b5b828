//! The certificate that an intercepted connection is answered with: found again, and minted for a new host.

use std::time::SystemTime;

use divan::{Bencher, black_box};
use netproxy::Host;
use netproxy::limits::LEAF_CACHE_ENTRIES_MAX;
use netproxy::tls::{LeafCache, SandboxCa};

fn main() {
    divan::main();
}

fn host(n: usize) -> Host {
    Host::parse(&format!("api{n}.example.com")).expect("a host")
}

/// As many as are kept.
fn full(now: SystemTime) -> LeafCache {
    let cache = LeafCache::new(SandboxCa::generate("bench", now).expect("an authority"));
    for n in 0..LEAF_CACHE_ENTRIES_MAX {
        cache.server_config(&host(n), now).expect("a leaf");
    }
    cache
}

/// Each of all hosts in turn, so that no one entry stays close to the processor. Many in one sample: a single one
/// takes hardly longer than the clock is read.
#[divan::bench(sample_count = 500, sample_size = 512)]
fn found_again(bencher: Bencher<'_, '_>) {
    let now = SystemTime::now();
    let (cache, minted) = (full(now), LEAF_CACHE_ENTRIES_MAX as u64);
    let hosts: Vec<Host> = (0..LEAF_CACHE_ENTRIES_MAX).map(host).collect();
    let mut turn = hosts.iter().cycle();
    bencher.bench_local(|| cache.server_config(black_box(turn.next().expect("endless")), now).is_ok());
    assert_eq!(cache.minted(), minted, "none was minted anew");
}

/// With the configuration around it, and the oldest one thrown out.
#[divan::bench]
fn minted(bencher: Bencher<'_, '_>) {
    let now = SystemTime::now();
    let cache = full(now);
    let mut hosts = (LEAF_CACHE_ENTRIES_MAX..).map(host);
    bencher
        .with_inputs(|| hosts.next().expect("endless"))
        .bench_local_refs(|host| cache.server_config(black_box(host), now).is_ok());
}
