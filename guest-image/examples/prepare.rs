//! Prepares a guest image and says where it is: `prepare CACHE_DIR INIT [6.1|6.12|host|KERNEL]`.

use std::path::Path;
use std::time::Instant;

use guest_image::{KernelSource, Request, SANDBOX_MODULES, Series, Step, prepare};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, init, rest @ ..] = arguments.as_slice() else {
        return Err("usage: prepare CACHE_DIR INIT [6.1|6.12|host|KERNEL]".into());
    };
    let source = match rest.first().map(String::as_str) {
        None | Some("6.12") => KernelSource::Debian(Series::V6_12),
        Some("6.1") => KernelSource::Debian(Series::V6_1),
        Some("host") => KernelSource::Host,
        Some(kernel) => KernelSource::File { kernel: kernel.into(), modules: None },
    };
    let init = std::fs::read(init)?;
    let start = Instant::now();
    let image = prepare(Request {
        source,
        cache_dir: Path::new(cache),
        modules: SANDBOX_MODULES,
        init: &init,
        files: &[],
        progress: &mut |step: Step<'_>| eprintln!("{step}"),
    })?;
    println!("{image:#?}\n{} ms", start.elapsed().as_millis());
    Ok(())
}
