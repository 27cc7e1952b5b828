//! What goes into the lab: the outer machine's init and modules, the test binary, guest kernels and initramfs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use guest_image::cpio::Archive;
use guest_image::{
    GuestImage, KernelSource, Request, SANDBOX_MODULES, Series, Step, minimal_kernel, prepare,
};

use super::Shipped;
use crate::context::{Context, Failure, Outcome, STATIC_TARGET, at, output, run};

/// KVM in the outer machine; the rest of what it needs is built into its kernel.
const OUTER_MODULES: &[&str] =
    &["irqbypass", "kvm", "kvm_amd", "virtio_console", "vhost_vsock", "tun", "overlay"];

/// Everything that one boot needs.
#[derive(Debug)]
pub struct Payload {
    /// The outer machine's kernel.
    pub kernel: PathBuf,
    base: PathBuf,
    files: Vec<Shipped>,
    conf: String,
}

impl Payload {
    /// Builds the static programs and prepares the kernels. An empty `program` means vmm-core's test `lab`.
    pub fn build(context: &Context, program: &[String], filter: Option<&str>) -> Outcome<Self> {
        let init = build_bin(context, &["-p", "lab-init", "--bin", "lab-init"], "lab-init")?;
        let outer = image(context, KernelSource::Debian(Series::V6_12), OUTER_MODULES, &init)?;
        let mut files = Vec::new();
        let mut conf = String::from("dir /payload\nenv AGENT_SANDBOX_KVM_LAB=1\nenv RUST_BACKTRACE=1\n");
        let (test, arguments) = match program.split_first() {
            Some((program, arguments)) => (PathBuf::from(program), arguments.to_vec()),
            None => {
                let mut arguments = vec!["--test-threads=1".to_owned()];
                arguments.extend(filter.map(str::to_owned));
                (build_test(context)?, arguments)
            }
        };
        let name = format!("payload/{}", test.file_name().unwrap_or_default().to_string_lossy());
        conf.push_str(&format!("arg /{name}\n"));
        files.push(Shipped { from: test, name, permissions: 0o755 });
        for argument in arguments {
            conf.push_str(&format!("arg {argument}\n"));
        }
        for (name, image) in guests(context)? {
            let mut ship = |kind: &str, suffix: &str, from: PathBuf| {
                let file = format!("payload/{kind}_{name}{suffix}").to_lowercase();
                conf.push_str(&format!("env AGENT_SANDBOX_LAB_{kind}_{name}{suffix}=/{file}\n"));
                files.push(Shipped { from, name: file, permissions: 0o644 });
            };
            ship("KERNEL", "", image.vmlinux);
            ship("INITRAMFS", "", image.initramfs);
            if let Some(bzimage) = image.bzimage {
                ship("KERNEL", "_BZIMAGE", bzimage);
            }
        }
        let kernel = outer.bzimage.unwrap_or(outer.vmlinux);
        Ok(Payload { kernel, base: outer.initramfs, files, conf })
    }

    /// Writes one initrd: the kernel unpacks archives that follow each other one by one.
    pub fn write(&self, folder: &Path) -> Outcome<PathBuf> {
        let mut archive = Archive::new();
        archive.file("lab.conf", 0o644, self.conf.as_bytes())?;
        archive.directory("payload", 0o755)?;
        for file in &self.files {
            archive.file(&file.name, file.permissions, &at(&file.from, fs::read(&file.from))?)?;
        }
        let path = folder.join("initrd");
        let mut initrd = at(&path, File::create(&path))?;
        at(&self.base, File::open(&self.base).and_then(|mut base| io::copy(&mut base, &mut initrd)))?;
        at(&path, initrd.write_all(&archive.finish()?))?;
        Ok(path)
    }
}

/// The kernels that guests in the lab may boot, each with the agent.
fn guests(context: &Context) -> Outcome<Vec<(&'static str, GuestImage)>> {
    let agent =
        ["-p", "guest-agent", "--bin", "guest-agent", "--no-default-features", "--features", "server"];
    let agent = build_bin(context, &agent, "guest-agent")?;
    let mut all = Vec::new();
    for (name, series) in [("6_12", Series::V6_12), ("6_1", Series::V6_1)] {
        all.push((name, image(context, KernelSource::Debian(series), SANDBOX_MODULES, &agent)?));
    }
    if let Some(kernel) = minimal_kernel(&context.cache) {
        let source = KernelSource::File { kernel, modules: None };
        all.push(("MINIMAL", image(context, source, &[], &agent)?));
    }
    Ok(all)
}

fn image(context: &Context, source: KernelSource, modules: &[&str], init: &Path) -> Outcome<GuestImage> {
    let init = at(init, fs::read(init))?;
    let progress = &mut |step: Step<'_>| eprintln!("{step}");
    let cache_dir = &context.cache;
    Ok(prepare(Request { source, cache_dir, modules, init: &init, files: &[], progress })?)
}

/// Optimised a little: everything runs in an emulated processor.
const PROFILE: [(&str, &str); 2] =
    [("CARGO_PROFILE_DEV_OPT_LEVEL", "1"), ("CARGO_PROFILE_TEST_OPT_LEVEL", "1")];

fn build_bin(context: &Context, arguments: &[&str], name: &str) -> Outcome<PathBuf> {
    run(context.static_cargo(&["build", "--quiet"]).args(arguments).envs(PROFILE))?;
    Ok(context.static_target().join(STATIC_TARGET).join("debug").join(name))
}

/// Builds vmm-core's test `lab`; cargo says where it put it.
fn build_test(context: &Context) -> Outcome<PathBuf> {
    let arguments =
        ["test", "-p", "vmm-core", "--test", "lab", "--no-run", "--message-format=json-render-diagnostics"];
    let messages = output(context.static_cargo(&arguments).envs(PROFILE))?;
    let executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executables
        .into_iter()
        .next_back()
        .ok_or_else(|| Failure::new("cargo named no executable for vmm-core's test `lab`"))
}
