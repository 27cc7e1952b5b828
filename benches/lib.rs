//! One bench per figure in `SPECIFICATION.md`; run with `cargo bench -p benches`.
