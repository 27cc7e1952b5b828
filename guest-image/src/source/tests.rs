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
