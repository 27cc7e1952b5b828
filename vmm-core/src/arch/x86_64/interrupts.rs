//! Interrupt controllers: KVM's own, with the legacy part switched off.

use kvm_bindings::{KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_lapic_state};
use kvm_ioctls::{VcpuFd, VmFd};

use super::layout;

/// Mask bit of a local vector table entry.
const LVT_MASKED: u32 = 1 << 16;
/// Delivery mode "non-maskable interrupt".
const LVT_NMI: u32 = 0b100 << 8;
/// Register offsets in the local APIC page.
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;

/// Makes the PICs, the I/O APIC and, with each vCPU, a local APIC.
pub(crate) fn create(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    vm.set_tss_address(layout::KVM_TSS)?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)?;
    vm.create_irq_chip()?;
    mask_pic(vm, KVM_IRQCHIP_PIC_MASTER)?;
    mask_pic(vm, KVM_IRQCHIP_PIC_SLAVE)
}

/// A kernel told that the hardware is "reduced" never touches the PICs, and unmasked they deliver every
/// device interrupt a second time, under a wrong vector.
fn mask_pic(vm: &VmFd, chip_id: u32) -> Result<(), kvm_ioctls::Error> {
    let mut chip = kvm_irqchip { chip_id, ..Default::default() };
    vm.get_irqchip(&mut chip)?;
    chip.chip.pic.imr = 0xff;
    vm.set_irqchip(&chip)
}

/// LINT0 (where the PIC would come in) masked, LINT1 the non-maskable interrupt.
pub(crate) fn set_local_pins(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut apic = vcpu.get_lapic()?;
    set_register(&mut apic, LVT_LINT0, LVT_MASKED);
    set_register(&mut apic, LVT_LINT1, LVT_NMI);
    vcpu.set_lapic(&apic)
}

fn set_register(apic: &mut kvm_lapic_state, offset: usize, value: u32) {
    for (to, from) in apic.regs.iter_mut().skip(offset).zip(value.to_le_bytes()) {
        *to = from.cast_signed();
    }
}
