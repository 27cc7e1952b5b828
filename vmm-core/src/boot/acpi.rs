//! The ACPI tables that tell a stock kernel about vCPUs, interrupts, power and virtio-mmio devices.
//!
//! Hardware-reduced ACPI (ACPI 6.5 §3.11.1): no PIC, no PM timer, no FACS. Devices are announced here and
//! nowhere else, since distributions compile the command-line announcement out.
//!
//! ```text
//! RSDP ─► XSDT ─► FADT ─► DSDT  (COM1, virtio devices, \_S5)
//!              └► MADT          (I/O APIC, local APICs)
//! ```

use acpi_tables::aml;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};

use crate::arch::x86_64::{layout, ports};

const OEM: [u8; 6] = *b"VMMCOR";
const OEM_TABLE: [u8; 8] = *b"VMMCORE ";
const OEM_REVISION: u32 = 1;

/// IA-PC boot architecture flags: no VGA to probe for, no CMOS clock. Bit 1, "there is an 8042", is clear,
/// which spares the guest a second of probing.
const BOOT_ARCH_NO_VGA: u16 = 1 << 2;
const BOOT_ARCH_NO_CMOS_CLOCK: u16 = 1 << 5;
/// Revision of a DSDT whose integers have 64 bits.
const DSDT_REVISION: u8 = 2;
const SDT_HEADER_BYTES: u32 = 36;

/// What the tables describe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) cpus: u8,
    /// Virtio devices; number `n` is where [`device_window`] says.
    pub(crate) devices: usize,
    /// Whether COM1 is there.
    pub(crate) serial: bool,
}

/// Register address and interrupt line of virtio device `index`.
pub(crate) fn device_window(index: usize) -> Option<(u64, u32)> {
    let index = u32::try_from(index).ok()?;
    let address = layout::MMIO_START.checked_add(u64::from(index).checked_mul(layout::MMIO_BYTES)?)?;
    Some((address, layout::GSI_START.checked_add(index)?))
}

/// All tables as one block that belongs at [`layout::ACPI_TABLES`], the RSDP first.
pub(crate) fn tables(machine: Machine) -> Vec<u8> {
    // The RSDP's size does not depend on its content, so it is made last and put first.
    let mut block = Block { bytes: vec![0; Rsdp::len()] };
    let dsdt = block.add(&dsdt(machine));
    let fadt = block.add(&fadt(dsdt));
    let madt = block.add(&madt(machine.cpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = block.add(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    for (to, from) in block.bytes.iter_mut().zip(rsdp) {
        *to = from;
    }
    block.bytes
}

struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// Appends a table, 16-byte aligned, and returns its guest address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let offset = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        table.to_aml_bytes(&mut self.bytes);
        layout::ACPI_TABLES.start.saturating_add(offset)
    }
}

/// No reset register is announced: the i8042 port is enough. Debian's kernels hang in their default way of
/// resetting with and without one, so give them `reboot=k` (or `reboot=t`) on the command line.
fn fadt(dsdt: u64) -> impl Aml {
    let port = |offset: u64| {
        let address = layout::PORTS_ACPI.start.saturating_add(offset);
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = (BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_CMOS_CLOCK).into();
    fadt.sleep_control_reg = port(0);
    fadt.sleep_status_reg = port(1);
    fadt.finalize()
}

fn madt(cpus: u8) -> MADT {
    let local = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, local);
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt
}

fn dsdt(machine: Machine) -> Table {
    let mut body = Vec::new();
    for index in 0..machine.devices {
        add_virtio(&mut body, index);
    }
    if machine.serial {
        add_serial(&mut body);
    }
    // "Soft off" is reached by writing this sleep type to the sleep control register.
    let off = aml::Package::new(vec![&ports::SLEEP_TYPE_OFF]);
    aml::Name::new("_S5_".into(), &off).to_aml_bytes(&mut body);
    let mut table = Sdt::new(*b"DSDT", SDT_HEADER_BYTES, DSDT_REVISION, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&body);
    Table(table)
}

fn add_virtio(body: &mut Vec<u8>, index: usize) {
    let Some((address, line)) = device_window(index) else { return };
    let (Ok(base), Ok(bytes)) = (u32::try_from(address), u32::try_from(layout::MMIO_BYTES)) else { return };
    let name = format!("_SB_.V{index:03}");
    aml::Device::new(
        name.as_str().into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &index),
            // Cache-coherent: without it the kernel would bounce every buffer.
            &aml::Name::new("_CCA".into(), &aml::ONE),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, base, bytes),
                    // Consumer, edge-triggered, active high, exclusive: what an irqfd delivers.
                    &aml::Interrupt::new(true, true, false, false, line),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn add_serial(body: &mut Vec<u8>) {
    let (Ok(port), Ok(length)) = (
        u16::try_from(layout::PORTS_SERIAL.start),
        u8::try_from(layout::PORTS_SERIAL.end - layout::PORTS_SERIAL.start),
    ) else {
        return;
    };
    aml::Device::new(
        "_SB_.COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Interrupt::new(true, true, false, false, layout::GSI_SERIAL),
                    &aml::IO::new(port, port, 0, length),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

struct Table(Sdt);

impl Aml for Table {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn table(block: &[u8], address: u64) -> &[u8] {
        let start = usize::try_from(address - layout::ACPI_TABLES.start).unwrap();
        let length = u32::from_le_bytes(block[start + 4..start + 8].try_into().unwrap());
        &block[start..start + usize::try_from(length).unwrap()]
    }

    #[test]
    fn every_table_is_reachable_from_the_rsdp_and_sums_to_zero() {
        let block = tables(Machine { cpus: 4, devices: 3, serial: true });
        assert!(block.starts_with(b"RSD PTR "));
        let xsdt = table(&block, word(&block, 24));
        let (fadt, madt) = (table(&block, word(xsdt, 36)), table(&block, word(xsdt, 44)));
        let dsdt = table(&block, word(fadt, 140));
        for (table, signature) in [(xsdt, b"XSDT"), (fadt, b"FACP"), (madt, b"APIC"), (dsdt, b"DSDT")] {
            assert!(table.starts_with(signature));
            assert_eq!(table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        }
        let count = |needle: &[u8]| dsdt.windows(needle.len()).filter(|window| *window == needle).count();
        assert_eq!(count(b"LNRO0005"), 3);
        assert_eq!(count(b"COM1"), 1);
        assert_eq!(madt.len(), 44 + 12 + 4 * 8);
    }

    #[test]
    fn the_largest_machine_fits() {
        use crate::limits::{CPUS_MAX, DEVICES_MAX};
        let block = tables(Machine { cpus: CPUS_MAX, devices: DEVICES_MAX, serial: true });
        assert!(u64::try_from(block.len()).unwrap() < layout::ACPI_TABLES.end - layout::ACPI_TABLES.start);
        assert_eq!(device_window(DEVICES_MAX - 1).unwrap().1, 23);
    }
}
