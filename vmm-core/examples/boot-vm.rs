//! Boots a Linux kernel with an initramfs on KVM, its serial console on standard output, and says why it
//! ended.
//!
//!     cargo run -p vmm-core --example boot-vm -- KERNEL INITRAMFS [COMMAND LINE…]
//!
//! KERNEL is a bzImage (`/boot/vmlinuz-…`) or an ELF (`vmlinux`); INITRAMFS a cpio archive, compressed or
//! not, whose `/init` runs. Memory and vCPUs come from `MEMORY_MIB` (256) and `CPUS` (1).

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use vmm_core::Vm;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kernel), Some(initramfs)) = (arguments.next(), arguments.next()) else {
        return Err("usage: boot-vm KERNEL INITRAMFS [COMMAND LINE…]".into());
    };
    let mut command_line = arguments.collect::<Vec<_>>().join(" ");
    if command_line.is_empty() {
        command_line = "console=ttyS0 reboot=k panic=-1".into();
    }
    let start = Instant::now();
    let vm = Vm::builder()
        .kernel(File::open(&kernel).map_err(|error| format!("{kernel}: {error}"))?)
        .initramfs(File::open(&initramfs).map_err(|error| format!("{initramfs}: {error}"))?)
        .command_line(command_line)
        .memory_mib(number("MEMORY_MIB", 256)?)
        .cpus(number("CPUS", 1)?)
        .serial(std::io::stdout())
        .build()?;
    let built = start.elapsed();
    let reason = vm.start()?.wait();
    eprintln!("boot-vm: {reason}; built in {built:?}, ended after {:?}", start.elapsed());
    Ok(())
}

fn number<N: std::str::FromStr>(variable: &str, default: N) -> Result<N, Box<dyn Error>>
where
    N::Err: Error + 'static,
{
    match std::env::var(variable) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}
