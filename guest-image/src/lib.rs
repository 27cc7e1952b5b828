//! Turns a distribution's kernel package into what a microVM boots: vmlinux, modules in load order, initramfs.
