//! Ways out of a share, and ways to change what may only be read. Each is one test, named by its rule.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use rustix::fs::{FileType, Mode, mknodat};

use super::*;

#[test]
fn names_that_are_paths_are_refused_by_every_operation() {
    let mut guest = Guest::new();
    let work = guest.work;
    for name in ["..", ".", "", "/etc/shadow", "../secret", "directory/../../secret", "file/"] {
        let plain = || Body::default().name(name);
        let made = || Body::default().u32(0o644).u32(0).u32(0).u32(0).name(name);
        let cases = [
            (opcode::LOOKUP, plain()),
            (opcode::UNLINK, plain()),
            (opcode::RMDIR, plain()),
            (opcode::CREATE, made()),
            (opcode::MKNOD, made()),
            (opcode::MKDIR, Body::default().u32(0o755).u32(0).name(name)),
            // GHSA-2gv2-cffp-j227: a symbolic link with an absolute name.
            (opcode::SYMLINK, plain().name("target")),
            (opcode::LINK, Body::default().u64(work).name(name)),
            (opcode::RENAME, Body::default().u64(work).name(name).name("new")),
            (opcode::RENAME, Body::default().u64(work).name("file").name(name)),
            (opcode::RENAME2, Body::default().u64(work).u32(0).u32(0).name("file").name(name)),
        ];
        for (opcode, body) in cases {
            assert_eq!(guest.call(opcode, work, body), Err(libc::EINVAL), "{opcode} {name:?}");
        }
    }
    assert_eq!(std::fs::read_to_string(guest.host("secret")).unwrap(), "the secret");
    assert!(guest.host("work/file").exists());
}

#[test]
fn symbolic_links_are_never_followed_on_the_host() {
    let mut guest = Guest::new();
    for (name, target) in
        [("absolute", "/etc/shadow"), ("upwards", "../secret"), ("root", "/"), ("magic", "/proc/self/root")]
    {
        symlink(target, guest.host("work").join(name)).unwrap();
        let link = guest.look_up(guest.work, name).unwrap();
        assert_eq!(guest.mode_of(link) & 0o170_000, 0o120_000, "{name}");
        assert_eq!(guest.open(link, libc::O_RDONLY), Err(libc::ELOOP), "{name}");
        assert_eq!(guest.open_directory(link), Err(libc::ENOTDIR), "{name}");
        assert_eq!(guest.look_up(link, "etc"), Err(libc::ENOTDIR), "{name}");
        let text = guest.call(opcode::READLINK, link, Body::default()).unwrap();
        assert_eq!(text, target.as_bytes());
        let created = guest.create(guest.work, name, libc::O_RDWR, 0o600);
        assert_eq!(created, Err(libc::ELOOP), "{name}");
        let resize = guest.call(opcode::SETATTR, link, setattr(8, 0, 0, 0, 0));
        assert_eq!(resize, Err(libc::EINVAL), "{name}");
    }
}

#[test]
fn a_link_the_guest_makes_may_say_anything_and_leads_nowhere() {
    let mut guest = Guest::new();
    let body = Body::default().name("shadow").name("/etc/shadow");
    let made = guest.call(opcode::SYMLINK, guest.work, body).unwrap();
    assert_eq!(guest.open(u64_at(&made, 0), libc::O_RDONLY), Err(libc::ELOOP));
    assert_eq!(std::fs::read_link(guest.host("work/shadow")).unwrap(), Path::new("/etc/shadow"));
}

#[test]
fn a_directory_swapped_for_a_link_after_its_lookup_is_not_followed() {
    let mut guest = Guest::new();
    let inner = guest.walk(guest.work, "directory/inner");
    std::fs::rename(guest.host("work/directory/inner"), guest.host("gone")).unwrap();
    symlink("../..", guest.host("work/directory/inner")).unwrap();
    guest.server.nodes.clear_directory_fds();
    assert_eq!(guest.look_up(inner, "secret"), Err(libc::ESTALE));
    assert_eq!(guest.open_directory(inner), Err(libc::ESTALE));
}

#[test]
fn a_file_swapped_for_a_link_after_its_lookup_is_not_followed() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    std::fs::remove_file(guest.host("work/file")).unwrap();
    symlink("../secret", guest.host("work/file")).unwrap();
    assert_eq!(guest.open(file, libc::O_RDWR), Err(libc::ESTALE));
    assert_eq!(guest.call(opcode::SETATTR, file, setattr(1, 0, 0, 0o777, 0)), Err(libc::ESTALE));
    assert_eq!(guest.call(opcode::LINK, guest.work, Body::default().u64(file).name("x")), Err(libc::ESTALE));
}

#[test]
fn fifos_sockets_and_devices_are_not_opened() {
    let mut guest = Guest::new();
    let work = crate::host_path::ambient(&guest.host("work")).unwrap();
    mknodat(&work, c"fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
    mknodat(&work, c"socket", FileType::Socket, Mode::RWXU, 0).unwrap();
    let mut kinds = vec!["fifo", "socket"];
    // Only root can make one; character device 1:5 is /dev/zero.
    if mknodat(&work, c"zero", FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 5)).is_ok() {
        kinds.push("zero");
    }
    for name in kinds {
        let node = guest.look_up(guest.work, name).unwrap();
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
            assert_eq!(guest.open(node, flags), Err(libc::ENXIO), "{name}");
            assert_eq!(guest.create(guest.work, name, flags, 0o600), Err(libc::ENXIO), "{name}");
        }
        assert_eq!(guest.call(opcode::SETATTR, node, setattr(8, 0, 0, 0, 0)), Err(libc::EINVAL), "{name}");
        let attr = guest.call(opcode::GETATTR, node, Body::default().u32(0).u32(0).u64(0)).unwrap();
        assert_eq!(u32_at(&attr, 16 + 76), 0, "the device number of {name} is not shown");
    }
}

#[test]
fn only_regular_files_and_sockets_are_made() {
    let mut guest = Guest::new();
    for (kind, result) in [
        (libc::S_IFIFO, Err(libc::EPERM)),
        (libc::S_IFCHR, Err(libc::EPERM)),
        (libc::S_IFBLK, Err(libc::EPERM)),
        (libc::S_IFDIR, Err(libc::EPERM)),
        (libc::S_IFLNK, Err(libc::EPERM)),
        (libc::S_IFREG, Ok(())),
        (libc::S_IFSOCK, Ok(())),
    ] {
        let body = Body::default().u32(kind | 0o644).u32(0x105).u32(0).u32(0).name(&format!("n{kind}"));
        assert_eq!(guest.call(opcode::MKNOD, guest.work, body).map(drop), result, "{kind:o}");
    }
    let made = std::fs::symlink_metadata(guest.host("work").join(format!("n{}", libc::S_IFSOCK))).unwrap();
    assert!(made.file_type().is_socket());
}

#[test]
fn renames_and_links_never_cross_shares() {
    let mut guest = Guest::with_two_writable_shares();
    let (work, other) = (guest.work, guest.fixed);
    let file = guest.look_up(work, "file").unwrap();
    let rename = |to: u64| Body::default().u64(to).name("file").name("moved");
    assert_eq!(guest.call(opcode::RENAME, work, rename(other)), Err(libc::EXDEV));
    assert_eq!(guest.call(opcode::LINK, other, Body::default().u64(file).name("out")), Err(libc::EXDEV));
    assert_eq!(guest.call(opcode::LINK, work, Body::default().u64(1).name("out")), Err(libc::EXDEV));
    assert_eq!(guest.call(opcode::RENAME, work, rename(1)), Err(libc::EROFS));
    assert!(guest.host("work/file").exists());
    // Within a share both work.
    assert!(guest.call(opcode::LINK, work, Body::default().u64(file).name("second")).is_ok());
    assert!(guest.call(opcode::RENAME, work, rename(work)).is_ok());
}

#[test]
fn a_link_to_a_link_links_the_link() {
    let mut guest = Guest::new();
    symlink("/etc/passwd", guest.host("work/away")).unwrap();
    let link = guest.look_up(guest.work, "away").unwrap();
    guest.call(opcode::LINK, guest.work, Body::default().u64(link).name("copy")).unwrap();
    assert!(std::fs::symlink_metadata(guest.host("work/copy")).unwrap().is_symlink());
}

#[test]
fn whiteouts_are_refused() {
    let mut guest = Guest::new();
    for flags in [4_u32, 8, 1 << 31, u32::MAX] {
        let body = Body::default().u64(guest.work).u32(flags).u32(0).name("file").name("moved");
        assert_eq!(guest.call(opcode::RENAME2, guest.work, body), Err(libc::EINVAL), "{flags}");
    }
}

/// BoxLite GHSA-g6ww-w5j2-r7x3: read-only held by the guest alone.
#[test]
fn a_read_only_share_cannot_be_changed_by_any_operation() {
    let mut guest = Guest::new();
    let fixed = guest.fixed;
    let file = guest.look_up(fixed, "file").unwrap();
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    let (work_file, work_handle) = guest.create(guest.work, "source", libc::O_RDWR, 0o644).unwrap();
    let made = |name: &str| Body::default().u32(0o100_644).u32(0).u32(0).u32(0).name(name);
    let mut data = transfer(handle, 0, 1, 0);
    data.0.push(b'x');
    let copy = Body::default().u64(work_handle).u64(0).u64(file).u64(handle).u64(0).u64(5).u64(0);
    let cases = [
        (opcode::SETATTR, file, setattr(1, 0, 0, 0o777, 0)),
        (opcode::SETATTR, file, setattr(2, 0, 0, 0, 0)),
        (opcode::SETATTR, file, setattr(8, 0, 0, 0, 0)),
        (opcode::SETATTR, file, setattr(8 | 64, handle, 0, 0, 0)),
        (opcode::SETATTR, file, setattr(16 | 32, 0, 0, 0, 0)),
        (opcode::SETATTR, file, setattr(0, 0, 0, 0, 0)),
        (opcode::WRITE, file, data),
        (opcode::FALLOCATE, file, Body::default().u64(handle).u64(0).u64(100).u32(0).u32(0)),
        (opcode::COPY_FILE_RANGE, work_file, copy),
        (opcode::CREATE, fixed, made("new")),
        (opcode::CREATE, fixed, made("file")),
        (opcode::MKNOD, fixed, made("new")),
        (opcode::MKDIR, fixed, Body::default().u32(0o755).u32(0).name("new")),
        (opcode::SYMLINK, fixed, Body::default().name("new").name("target")),
        (opcode::LINK, fixed, Body::default().u64(file).name("new")),
        (opcode::UNLINK, fixed, Body::default().name("file")),
        (opcode::RMDIR, fixed, Body::default().name("directory")),
        (opcode::RENAME, fixed, Body::default().u64(fixed).name("file").name("new")),
        (opcode::RENAME2, fixed, Body::default().u64(fixed).u32(2).u32(0).name("file").name("link")),
        (opcode::RENAME, fixed, Body::default().u64(guest.work).name("file").name("new")),
        (opcode::RENAME, guest.work, Body::default().u64(fixed).name("file").name("new")),
    ];
    for (opcode, node, body) in cases {
        assert_eq!(guest.call(opcode, node, body), Err(libc::EROFS), "{opcode}");
    }
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_TRUNC, libc::O_RDWR | libc::O_APPEND] {
        assert_eq!(guest.open(file, flags), Err(libc::EROFS), "{flags:o}");
    }
    // SETXATTR, REMOVEXATTR, IOCTL, TMPFILE, SETLK, SETUPMAPPING: not offered at all.
    for opcode in [21, 24, 39, 51, 32, 48] {
        assert_eq!(guest.call(opcode, file, Body::default().u64(0)), Err(libc::ENOSYS), "{opcode}");
    }
    assert_eq!(std::fs::read_to_string(guest.host("fixed/file")).unwrap(), "content");
    assert_eq!(std::fs::read_dir(guest.host("fixed")).unwrap().count(), 3);
}

#[test]
fn the_made_up_directories_cannot_be_changed() {
    let mut guest = Guest::new();
    let some = guest.look_up(1, "some").unwrap();
    for node in [1, some] {
        let cases = [
            (opcode::MKDIR, Body::default().u32(0o755).u32(0).name("new")),
            (opcode::SYMLINK, Body::default().name("new").name("target")),
            (opcode::UNLINK, Body::default().name("work")),
            (opcode::RMDIR, Body::default().name("fixed")),
            (opcode::RENAME, Body::default().u64(node).name("work").name("new")),
            (opcode::SETATTR, setattr(1, 0, 0, 0o777, 0)),
        ];
        for (opcode, body) in cases {
            assert_eq!(guest.call(opcode, node, body), Err(libc::EROFS), "{opcode}");
        }
        assert_eq!(guest.look_up(node, "etc"), Err(libc::ENOENT));
    }
}

#[test]
fn set_user_id_is_dropped() {
    let mut guest = Guest::new();
    let (node, handle) = guest.create(guest.work, "tool", libc::O_RDWR, 0o6755).unwrap();
    assert_eq!(guest.mode_of(node), 0o100_755);
    guest.call(opcode::SETATTR, node, setattr(1, 0, 0, 0o7777, 0)).unwrap();
    assert_eq!(guest.mode_of(node), 0o101_777);
    guest.call(opcode::SETATTR, node, setattr(1 | 64, handle, 0, 0o4711, 0)).unwrap();
    assert_eq!(guest.mode_of(node), 0o100_711);
    let body = Body::default().u32(0o104_755).u32(0).u32(0).u32(0).name("second");
    let made = guest.call(opcode::MKNOD, guest.work, body).unwrap();
    assert_eq!(guest.mode_of(u64_at(&made, 0)), 0o100_755);
    // A directory may pass its group on.
    let made = guest.call(opcode::MKDIR, guest.work, Body::default().u32(0o6775).u32(0).name("dir")).unwrap();
    assert_eq!(guest.mode_of(u64_at(&made, 0)), 0o042_775);
}

#[test]
fn a_share_that_is_one_file_is_nothing_but_that_file() {
    let mut guest = Guest::new();
    let file = guest.walk(1, "some/file");
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(file, handle, 0, 100).unwrap(), b"the secret");
    assert_eq!(guest.open(file, libc::O_RDWR), Err(libc::EROFS));
    for name in ["work", "x"] {
        assert_eq!(guest.look_up(file, name), Err(libc::ENOTDIR));
    }
    assert_eq!(guest.open_directory(file), Err(libc::ENOTDIR));
}

#[test]
fn new_files_belong_to_the_guests_user_when_this_process_is_root() {
    let mut guest = Guest::new();
    let mut request =
        Body::default().u32(libc::O_RDWR.cast_unsigned()).u32(0o640).u32(0).u32(0).name("mine").0;
    let mut message = header(opcode::CREATE, guest.work, request.len());
    message[24..28].copy_from_slice(&1234_u32.to_le_bytes());
    message[28..32].copy_from_slice(&4321_u32.to_le_bytes());
    message.append(&mut request);
    assert!(guest.raw(&mut message, 1000).len() > 16);
    let made = std::fs::metadata(guest.host("work/mine")).unwrap();
    let owner = rustix::process::geteuid().as_raw();
    assert_eq!(made.uid(), if owner == 0 { 1234 } else { owner });
    assert_eq!(made.mode() & 0o7777, 0o640);
}
