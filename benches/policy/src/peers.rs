//! `cargo bench --manifest-path benches/policy/Cargo.toml`

use divan::{Bencher, black_box};
use policy_bench::{MANY, Question, TEN, cedar, ours, rego};

fn main() {
    let (ten, many) = (ours::ten_rules(), ours::many_hosts());
    agree("ours", |asked| ours::allows(&ten, asked), |asked| ours::allows(&many, asked));
    let (ten, many) = (cedar::Engine::ten_rules(), cedar::Engine::many_hosts());
    agree("cedar", |asked| ten.allows(&cedar::question(asked)), |asked| many.allows(&cedar::question(asked)));
    let (mut ten, mut many) = (rego::Engine::ten_rules(), rego::Engine::many_hosts());
    agree("rego", |asked| ten.allows(&rego::question(asked)), |asked| many.allows(&rego::question(asked)));
    divan::main();
}

fn agree(name: &str, mut ten: impl FnMut(&Question) -> bool, mut many: impl FnMut(&Question) -> bool) {
    for (asked, allowed) in &TEN {
        assert_eq!(ten(asked), *allowed, "{name}: {asked:?}");
    }
    for (asked, allowed) in &MANY {
        assert_eq!(many(asked), *allowed, "{name}: {asked:?}");
    }
}

/// The first question of each: allowed, by the last of its rules or names.
mod ten_rules {
    use super::*;

    #[divan::bench]
    fn ours(bencher: Bencher<'_, '_>) {
        let rules = ours::ten_rules();
        bencher.bench_local(|| ours::allows(black_box(&rules), black_box(&TEN[0].0)));
    }

    #[divan::bench]
    fn cedar(bencher: Bencher<'_, '_>) {
        let (engine, asked) = (cedar::Engine::ten_rules(), cedar::question(&TEN[0].0));
        bencher.bench_local(|| engine.allows(black_box(&asked)));
    }

    #[divan::bench]
    fn rego(bencher: Bencher<'_, '_>) {
        let (mut engine, asked) = (rego::Engine::ten_rules(), rego::question(&TEN[0].0));
        bencher.bench_local(|| engine.allows(black_box(&asked)));
    }
}

mod ten_thousand_hosts {
    use super::*;

    #[divan::bench]
    fn ours(bencher: Bencher<'_, '_>) {
        let rules = ours::many_hosts();
        bencher.bench_local(|| ours::allows(black_box(&rules), black_box(&MANY[0].0)));
    }

    #[divan::bench]
    fn cedar(bencher: Bencher<'_, '_>) {
        let (engine, asked) = (cedar::Engine::many_hosts(), cedar::question(&MANY[0].0));
        bencher.bench_local(|| engine.allows(black_box(&asked)));
    }

    #[divan::bench]
    fn rego(bencher: Bencher<'_, '_>) {
        let (mut engine, asked) = (rego::Engine::many_hosts(), rego::question(&MANY[0].0));
        bencher.bench_local(|| engine.allows(black_box(&asked)));
    }
}
