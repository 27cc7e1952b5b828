use super::*;
use crate::progress::Silent;

#[test]
fn newest_complete_package_in_the_cache_is_taken_without_network() {
    let dir = tempfile::tempdir().unwrap();
    let kernels = dir.path().join(KERNELS);
    for (version, whole) in
        [("6.12.99+deb12", true), ("6.12.117+deb12", true), ("6.12.200+deb12", false), ("6.1.0-9", true)]
    {
        let root = kernels.join(format!("{PREFIX}{version}{FLAVOUR}"));
        fs::create_dir_all(root.join("lib/modules").join(format!("{version}{FLAVOUR}"))).unwrap();
        if whole {
            fs::write(root.join("vmlinux"), "").unwrap();
        }
    }
    let cache = Cache::new(dir.path());
    let kernel = resolve(&KernelSource::Debian(Series::V6_12), &cache, &mut Silent).unwrap();
    assert_eq!(kernel.release, "6.12.117+deb12-cloud-amd64");
    assert!(kernel.modules.unwrap().ends_with("lib/modules/6.12.117+deb12-cloud-amd64"));
    let kernel = resolve(&KernelSource::Debian(Series::V6_1), &cache, &mut Silent).unwrap();
    assert_eq!(kernel.release, "6.1.0-9-cloud-amd64");
    assert_eq!(minimal_kernel(dir.path()), None);
}

#[test]
fn a_file_that_is_no_kernel_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("vmlinux");
    fs::write(&kernel, "hello").unwrap();
    let source = KernelSource::File { kernel, modules: None };
    let text = resolve(&source, &Cache::new(dir.path()), &mut Silent).unwrap_err().to_string();
    assert!(text.contains("neither an ELF file nor a Linux bzImage") && text.contains("--kernel"), "{text}");
}

#[test]
fn minimal_kernels_name_themselves_after_their_folder() {
    assert_eq!(release_from_path(Path::new("/c/kernels/minimal-6.12.117/vmlinux")), "minimal-6.12.117");
    assert_eq!(release_from_path(Path::new("/tmp/my-kernel")), "my-kernel");
}

#[test]
fn without_apt_and_without_a_readable_host_kernel_the_error_names_the_option() {
    let apt = Error::AptMissing;
    let host = Error::io("read", Path::new("/boot/vmlinuz-1"), std::io::ErrorKind::PermissionDenied.into());
    let text = Error::NoKernel { apt: Box::new(apt), host: Box::new(host) }.to_string();
    for part in ["apt-get is not on this system", "/boot/vmlinuz-1", "permission denied", "--kernel PATH"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_kernel_outside_the_cache_is_extracted_once_and_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("bzImage");
    let cache = Cache::new(&dir.path().join("cache"));
    let source = KernelSource::File { kernel: kernel.clone(), modules: None };
    let mut seen = Vec::new();
    for content in [b"\x7fELF\x02\x01 one".as_slice(), b"\x7fELF\x02\x01 three"] {
        fs::write(&kernel, crate::bzimage::tests::stored(content)).unwrap();
        for _ in 0..2 {
            let mut steps = 0;
            let mut count = |_: Step<'_>| steps += 1;
            let vmlinux = resolve(&source, &cache, &mut count).unwrap().vmlinux;
            assert_eq!(fs::read(vmlinux).unwrap(), content);
            seen.push(steps);
        }
    }
    assert_eq!(seen, [1, 0, 1, 0]);
}
