//! The description of a virtual machine, and how it is made from one.

use std::io::Write;
use std::sync::Arc;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};
use vm_memory::{Address, GuestMemory as _, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{Vm, VmError};
use crate::arch::x86_64::{interrupts, layout, ports, registers};
use crate::boot::{Boot, Image, acpi};
use crate::bus::Bus;
use crate::devices::Device;
use crate::exit::Exit;
use crate::limits::{CPUS_MAX, DEVICES_MAX, MEMORY_MIB_MAX, MEMORY_MIB_MIN};
use crate::memory::{self, GuestMemory};
use crate::mmio::Transport;
use crate::vcpu::{Buses, Template, Vcpu};
use crate::{kvm, limits};

/// What every KVM of Linux 5.10 or later on x86_64 has, and what the text calls it.
const CAPABILITIES: [(Cap, &str); 6] = [
    (Cap::Irqchip, "in-kernel interrupt controllers"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::Irqfd, "irqfd"),
    (Cap::UserMemory, "user memory regions"),
    (Cap::SetTssAddr, "the task state segment address"),
    (Cap::ImmediateExit, "immediate exit"),
];

/// A virtual machine as data; see [`Vm::builder`].
pub struct Builder {
    kernel: Option<Image>,
    initramfs: Option<Image>,
    command_line: String,
    memory_mib: u32,
    cpus: u8,
    devices: Vec<Box<dyn Device>>,
    serial: Option<Box<dyn Write + Send>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            kernel: None,
            initramfs: None,
            command_line: String::new(),
            memory_mib: 256,
            cpus: 1,
            devices: Vec::new(),
            serial: None,
        }
    }
}

impl Builder {
    /// The kernel: an x86_64 ELF (`vmlinux`, entered by PVH where it can be) or a bzImage (`vmlinuz`).
    #[must_use]
    pub fn kernel(mut self, image: impl Into<Image>) -> Self {
        self.kernel = Some(image.into());
        self
    }

    /// The initramfs; none by default.
    #[must_use]
    pub fn initramfs(mut self, image: impl Into<Image>) -> Self {
        self.initramfs = Some(image.into());
        self
    }

    /// The kernel's command line: at most [`limits::COMMAND_LINE_BYTES_MAX`] printable ASCII bytes.
    ///
    /// Say `reboot=k` (the guest's reset is [`ExitReason::Reset`](crate::ExitReason::Reset)) or `reboot=t`
    /// (a triple fault): without either, Debian's kernels were seen to hang on a reset.
    #[must_use]
    pub fn command_line(mut self, text: impl Into<String>) -> Self {
        self.command_line = text.into();
        self
    }

    /// Guest memory in MiB, [`limits::MEMORY_MIB_MIN`] to [`limits::MEMORY_MIB_MAX`]; 256 by default.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Number of vCPUs, 1 to [`limits::CPUS_MAX`]; 1 by default.
    #[must_use]
    pub fn cpus(mut self, count: u8) -> Self {
        self.cpus = count;
        self
    }

    /// Adds a virtio device; at most [`limits::DEVICES_MAX`].
    #[must_use]
    pub fn device(mut self, device: Box<dyn Device>) -> Self {
        self.devices.push(device);
        self
    }

    /// Gives the guest a serial port, COM1 (`console=ttyS0`), that writes to `out`. It has no input.
    ///
    /// Every byte costs an exit: it is for early messages and for debugging, `devices::console` is the
    /// console to use. `out` is called from vCPU threads: one that blocks stops the guest, and one that
    /// blocks for ever keeps [`Handle::wait`](super::Handle::wait) from returning.
    #[must_use]
    pub fn serial(mut self, out: impl Write + Send + 'static) -> Self {
        self.serial = Some(Box::new(out));
        self
    }

    /// Opens KVM, maps memory, loads the kernel, makes vCPUs and attaches devices. Starts no thread.
    ///
    /// # Errors
    /// [`VmError`], each variant of it but [`VmError::Host`]'s failure to start a thread.
    pub fn build(mut self) -> Result<Vm, VmError> {
        self.check()?;
        let boot = Boot {
            kernel: self.kernel.take().ok_or(VmError::NoKernel)?,
            initramfs: self.initramfs.take(),
            command_line: std::mem::take(&mut self.command_line),
            memory_mib: self.memory_mib,
        };
        let kvm = open_kvm()?;
        let fd = kvm.create_vm().map_err(ioctl("make a virtual machine"))?;
        interrupts::create(&fd).map_err(ioctl("make interrupt controllers"))?;
        let memory = self.map_memory(&fd)?;
        let tables = acpi::tables(acpi::Machine {
            cpus: self.cpus,
            devices: self.devices.len(),
            serial: self.serial.is_some(),
        });
        let entry = boot.load(&memory, &tables)?;
        let vcpus = self.make_vcpus(&kvm, &fd)?;
        if let Some(first) = vcpus.first() {
            registers::set_entry(first.fd(), entry).map_err(ioctl("set the first vCPU's registers"))?;
        }
        let exit = Arc::new(Exit::new()?);
        let mut buses = Buses { ports: Bus::default(), memory: Bus::default(), _ram: memory.clone() };
        let serial = self.serial.take().map(|out| serial_port(&fd, out)).transpose()?;
        ports::attach(&mut buses.ports, &exit, serial)?;
        let transports = attach_devices(self.devices, &fd, &memory, &mut buses.memory)?;
        Ok(Vm { exit, buses: Arc::new(buses), vcpus, transports, fd })
    }

    fn check(&self) -> Result<(), VmError> {
        let within = |what, given, min, max| {
            if (min..=max).contains(&given) {
                Ok(())
            } else {
                Err(VmError::OutOfRange { what, min, max, given })
            }
        };
        let devices = u64::try_from(self.devices.len()).unwrap_or(u64::MAX);
        let memory = (u64::from(MEMORY_MIB_MIN), u64::from(MEMORY_MIB_MAX));
        within("guest memory in MiB", u64::from(self.memory_mib), memory.0, memory.1)?;
        within("the number of vCPUs", u64::from(self.cpus), 1, u64::from(CPUS_MAX))?;
        within("the number of devices", devices, 0, u64::try_from(DEVICES_MAX).unwrap_or(u64::MAX))
    }

    fn map_memory(&self, fd: &VmFd) -> Result<GuestMemory, VmError> {
        let mib = self.memory_mib;
        let memory = memory::map_ram(mib).map_err(|source| VmError::Memory { mib, source })?;
        for (region, slot) in memory.iter().zip(0_u32..) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr().addr() as u64,
            };
            // SAFETY: the range is one mapping of our own. The guest can run only as long as a vCPU thread
            // does, and each of those holds the mapping through `Buses`.
            unsafe { fd.set_user_memory_region(region) }.map_err(ioctl("map guest memory"))?;
        }
        Ok(memory)
    }

    fn make_vcpus(&self, kvm: &Kvm, fd: &VmFd) -> Result<Vec<Vcpu>, VmError> {
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(ioctl("list the CPU features it supports"))?;
        let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        let template = Template { cpuid: &cpuid, count: self.cpus, tsc_deadline };
        (0..self.cpus).map(|id| Vcpu::new(fd, id, &template).map_err(ioctl("make a vCPU"))).collect()
    }
}

fn open_kvm() -> Result<Kvm, VmError> {
    let kvm = kvm::open()?;
    match CAPABILITIES.iter().find(|(capability, _)| !kvm.check_extension(*capability)) {
        Some((_, name)) => Err(VmError::Capability(name)),
        None => Ok(kvm),
    }
}

fn serial_port(fd: &VmFd, out: Box<dyn Write + Send>) -> Result<ports::SerialPort, VmError> {
    let line = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
    fd.register_irqfd(&line, layout::GSI_SERIAL).map_err(ioctl("connect the serial port's interrupt"))?;
    Ok(ports::SerialPort::new(line, out))
}

fn attach_devices(
    devices: Vec<Box<dyn Device>>,
    fd: &VmFd,
    memory: &GuestMemory,
    bus: &mut Bus,
) -> Result<Vec<Arc<Transport>>, VmError> {
    let mut transports = Vec::new();
    for (device, index) in devices.into_iter().zip(0..limits::DEVICES_MAX) {
        let id = device.id();
        let Some(window) = acpi::device_window(index) else { continue };
        let transport =
            Transport::attach(fd, memory, device, window).map_err(|source| VmError::Attach { id, source })?;
        let range = window.0..window.0.saturating_add(layout::MMIO_BYTES);
        bus.add(range, Arc::<Transport>::clone(&transport))?;
        transports.push(transport);
    }
    Ok(transports)
}

fn ioctl(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> VmError {
    move |source| VmError::Ioctl { action, source }
}
