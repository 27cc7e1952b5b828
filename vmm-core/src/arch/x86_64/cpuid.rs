//! What the guest's CPUID instruction says: what KVM supports, made consistent for each vCPU.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Leaf 1 ecx: "a hypervisor is present". Clear in what KVM reports on AMD; without it a guest does not
/// look for kvm-clock.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 ecx: TSC-deadline timer. KVM announces it as a capability of its own, not in the leaf.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 edx: more than one logical processor in the package.
const HTT: u32 = 1 << 28;

/// Level types of leaf 0xb, ecx bits 15:8.
const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Adapts KVM's supported leaves to vCPU `id` of `count` (one package, one thread per core).
pub(crate) fn for_vcpu(supported: &CpuId, id: u8, count: u8, tsc_deadline: bool) -> CpuId {
    let mut cpuid = supported.clone();
    let (id, count) = (u32::from(id), u32::from(count));
    for entry in cpuid.as_mut_slice() {
        adapt(entry, id, count, tsc_deadline);
    }
    cpuid
}

fn adapt(entry: &mut kvm_cpuid_entry2, id: u32, count: u32, tsc_deadline: bool) {
    match entry.function {
        1 => {
            entry.ebx = (entry.ebx & 0xffff) | id << 24 | count << 16;
            entry.ecx |= HYPERVISOR;
            set(&mut entry.ecx, TSC_DEADLINE, tsc_deadline);
            set(&mut entry.edx, HTT, count > 1);
        }
        // Intel's deterministic cache parameters: caches up to level 2 belong to one core, the third is
        // shared by all. The fields hold "count minus one".
        4 if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level < 3 { 0 } else { count.saturating_sub(1) };
            entry.eax = (entry.eax & 0x3fff) | sharing << 14 | count.saturating_sub(1) << 26;
        }
        // Extended topology: SMT level of one thread, core level of all.
        0xb | 0x1f => {
            (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                0 => (0, 1, LEVEL_SMT << 8),
                1 => (bits_for(count), count, LEVEL_CORE << 8 | 1),
                index => (0, 0, index & 0xff),
            };
            entry.edx = id;
        }
        // AMD: threads in the package minus one, and the width of the core id inside the APIC id.
        0x8000_0008 => entry.ecx = bits_for(count) << 12 | count.saturating_sub(1),
        // AMD: extended APIC id, core id with one thread each, one node.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id & 0xff, 0),
        _ => {}
    }
}

fn set(word: &mut u32, bit: u32, on: bool) {
    *word = if on { *word | bit } else { *word & !bit };
}

/// Bits needed to number `count` things.
fn bits_for(count: u32) -> u32 {
    u32::BITS - count.saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, ..Default::default() }
    }

    fn adapted(function: u32, index: u32, id: u8, count: u8) -> kvm_cpuid_entry2 {
        let supported = CpuId::from_entries(&[entry(function, index)]).unwrap();
        for_vcpu(&supported, id, count, true).as_slice()[0]
    }

    #[test]
    fn leaf_1_announces_the_hypervisor_and_the_apic_id() {
        let leaf = adapted(1, 0, 3, 4);
        assert_eq!(leaf.ebx, 3 << 24 | 4 << 16);
        assert_eq!(leaf.ecx, HYPERVISOR | TSC_DEADLINE);
        assert_eq!(leaf.edx, HTT);
        assert_eq!(adapted(1, 0, 0, 1).edx, 0);
    }

    #[test]
    fn topology_counts_every_vcpu_as_a_core_of_one_package() {
        assert_eq!(adapted(0xb, 0, 5, 6).ebx, 1);
        let core = adapted(0xb, 1, 5, 6);
        assert_eq!((core.eax, core.ebx, core.edx), (3, 6, 5));
        assert_eq!(adapted(0x8000_0008, 0, 0, 6).ecx, 3 << 12 | 5);
        assert_eq!((bits_for(1), bits_for(2), bits_for(3), bits_for(32)), (0, 1, 2, 5));
    }
}
