//! What honest guests do.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[test]
fn the_tree_shows_its_shares() {
    let mut guest = Guest::new();
    for (path, expected) in
        [("", vec![".", "..", "some", "work"]), ("some", vec![".", "..", "file", "fixed"])]
    {
        let node = if path.is_empty() { 1 } else { guest.walk(1, path) };
        let handle = guest.open_directory(node).unwrap();
        for opcode in [opcode::READDIR, opcode::READDIRPLUS] {
            let listing = guest.call(opcode, node, transfer(handle, 0, 4096, 0)).unwrap();
            assert_eq!(names(&listing, opcode == opcode::READDIRPLUS).0, expected);
        }
        let rest = guest.call(opcode::READDIR, node, transfer(handle, 3, 4096, 0)).unwrap();
        assert_eq!(names(&rest, false).0, expected[3..]);
        assert_eq!(guest.mode_of(node), 0o040_555);
    }
}

#[test]
fn directories_are_listed_piece_by_piece_without_losing_a_name() {
    let mut guest = Guest::new();
    let many = guest.host("work/many");
    std::fs::create_dir(&many).unwrap();
    let mut expected = vec![".".to_owned(), "..".to_owned()];
    for index in 0..300 {
        let name = format!("{index}-{}", "n".repeat(index % 200));
        std::fs::write(many.join(&name), "").unwrap();
        expected.push(name);
    }
    expected.sort();
    let node = guest.look_up(guest.work, "many").unwrap();
    let handle = guest.open_directory(node).unwrap();
    for (opcode, bytes) in [(opcode::READDIR, 300), (opcode::READDIRPLUS, 700), (opcode::READDIRPLUS, 4096)] {
        let (mut found, mut position) = (Vec::new(), 0);
        loop {
            let listing = guest.call(opcode, node, transfer(handle, position, bytes, 0)).unwrap();
            assert!(listing.len() <= bytes as usize);
            if listing.is_empty() {
                break;
            }
            let (names, next) = names(&listing, opcode == opcode::READDIRPLUS);
            found.extend(names);
            position = next;
        }
        found.sort();
        assert_eq!(found, expected, "{opcode} {bytes}");
    }
}

#[test]
fn what_is_forgotten_costs_nothing() {
    let mut guest = Guest::new();
    let before = guest.server.nodes.len();
    let directory = guest.look_up(guest.work, "directory").unwrap();
    let inner = guest.look_up(directory, "inner").unwrap();
    let deep = guest.look_up(inner, "deep").unwrap();
    assert_eq!(guest.look_up(inner, "deep"), Ok(deep));
    let mut forget = |node, times: u64| guest.send(opcode::FORGET, node, &times.to_le_bytes(), 100);
    // Parents first: they stay as long as a child needs them.
    assert_eq!(forget(directory, 1), None);
    assert_eq!(forget(inner, 1), None);
    assert_eq!(forget(deep, 1), None);
    assert!(guest.open(deep, libc::O_RDONLY).is_ok());
    guest.send(opcode::FORGET, deep, &1_u64.to_le_bytes(), 100);
    assert_eq!(guest.server.nodes.len(), before);
    assert_eq!(guest.open(deep, libc::O_RDONLY), Err(libc::ESTALE));
    assert_ne!(guest.look_up(guest.work, "directory"), Ok(directory), "numbers are not used twice");
}

#[test]
fn files_are_written_and_read() {
    let mut guest = Guest::new();
    let (node, handle) = guest.create(guest.work, "new", libc::O_RDWR | libc::O_EXCL, 0o600).unwrap();
    assert_eq!(guest.write(node, handle, 0, b"hello world"), Ok(11));
    assert_eq!(guest.read(node, handle, 6, 100).unwrap(), b"world");
    assert_eq!(guest.read(node, handle, 100, 100).unwrap(), b"");
    assert_eq!(std::fs::read_to_string(guest.host("work/new")).unwrap(), "hello world");
    guest.call(opcode::SETATTR, node, setattr(8, 0, 5, 0, 0)).unwrap();
    assert_eq!(guest.read(node, handle, 0, 100).unwrap(), b"hello");
    assert_eq!(guest.create(guest.work, "new", libc::O_RDWR | libc::O_EXCL, 0o600), Err(libc::EEXIST));
    let (same, _) = guest.create(guest.work, "new", libc::O_RDWR | libc::O_TRUNC, 0o600).unwrap();
    assert_eq!(same, node);
    assert_eq!(std::fs::read_to_string(guest.host("work/new")).unwrap(), "");
}

#[test]
fn appending_goes_to_the_end_and_delayed_writes_to_their_place() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let handle = guest.open(file, libc::O_WRONLY | libc::O_APPEND).unwrap();
    assert_eq!(guest.write(file, handle, 0, b"+"), Ok(1));
    let mut delayed = transfer(handle, 0, 1, 1);
    delayed.0.push(b'C');
    guest.call(opcode::WRITE, file, delayed).unwrap();
    assert_eq!(std::fs::read_to_string(guest.host("work/file")).unwrap(), "Content+");
}

#[test]
fn a_file_without_a_name_is_reached_through_its_handle() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let handle = guest.open(file, libc::O_RDWR).unwrap();
    guest.call(opcode::UNLINK, guest.work, Body::default().name("file")).unwrap();
    assert_eq!(guest.look_up(guest.work, "file"), Err(libc::ENOENT));
    assert_eq!(guest.mode_of(file) & 0o170_000, 0o100_000);
    guest.call(opcode::SETATTR, file, setattr(1 | 8, 0, 3, 0o600, 0)).unwrap();
    assert_eq!(guest.read(file, handle, 0, 10).unwrap(), b"con");
    let second = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(file, second, 0, 10).unwrap(), b"con");
}

#[test]
fn a_file_with_two_names_keeps_one_node() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let made = guest.call(opcode::LINK, guest.work, Body::default().u64(file).name("second")).unwrap();
    assert_eq!(u64_at(&made, 0), file);
    guest.call(opcode::UNLINK, guest.work, Body::default().name("second")).unwrap();
    // The remembered name is gone: the guest is told to look again, not that the file is gone.
    let attr = guest.call(opcode::GETATTR, file, Body::default().u32(0).u32(0).u64(0));
    assert_eq!(attr, Err(libc::ESTALE));
    assert_eq!(guest.look_up(guest.work, "file"), Ok(file));
    assert!(guest.open(file, libc::O_RDONLY).is_ok());
}

#[test]
fn renamed_files_and_directories_are_still_found() {
    let mut guest = Guest::new();
    let work = guest.work;
    let deep = guest.walk(work, "directory/inner/deep");
    let rename = |old: &str, new: &str| Body::default().u64(work).name(old).name(new);
    guest.call(opcode::RENAME, work, rename("directory", "moved")).unwrap();
    guest.server.nodes.clear_directory_fds();
    assert!(guest.open(deep, libc::O_RDONLY).is_ok());
    let file = guest.look_up(work, "file").unwrap();
    let moved = guest.look_up(work, "moved").unwrap();
    let exchange = Body::default().u64(work).u32(2).u32(0).name("file").name("moved");
    guest.call(opcode::RENAME2, work, exchange).unwrap();
    guest.server.nodes.clear_directory_fds();
    assert!(guest.open(file, libc::O_RDONLY).is_ok() && guest.open_directory(moved).is_ok());
    assert!(guest.open(deep, libc::O_RDONLY).is_ok());
    let careful = Body::default().u64(work).u32(1).u32(0).name("file").name("moved");
    assert_eq!(guest.call(opcode::RENAME2, work, careful), Err(libc::EEXIST));
}

#[test]
fn a_file_replaced_on_the_host_is_noticed() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    std::fs::write(guest.host("work/tmp"), "new content").unwrap();
    std::fs::rename(guest.host("work/tmp"), guest.host("work/file")).unwrap();
    assert_eq!(guest.open(file, libc::O_RDONLY), Err(libc::ESTALE));
    let again = guest.look_up(guest.work, "file").unwrap();
    let handle = guest.open(again, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(again, handle, 0, 100).unwrap(), b"new content");
}

#[test]
fn pages_are_kept_only_while_the_file_is_unchanged() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let mut keeps = || {
        let reply = guest.call(opcode::OPEN, file, Body::default().u32(0).u32(0)).unwrap();
        u32_at(&reply, 8) & 2 != 0
    };
    assert!(keeps() && keeps());
    std::fs::write(guest.folder.path().join("work/file"), "changed, and longer").unwrap();
    let reply = guest.call(opcode::OPEN, file, Body::default().u32(0).u32(0)).unwrap();
    assert_eq!(u32_at(&reply, 8) & 2, 0);
}

#[test]
fn read_only_shares_are_trusted_longer_and_absent_names_with_them() {
    let mut guest = Guest::new();
    let mut valid = |node, name: &str| {
        guest
            .call(opcode::LOOKUP, node, Body::default().name(name))
            .map(|entry| (u64_at(&entry, 0) != 0, u64_at(&entry, 16)))
    };
    let (work, fixed) = (3, 4);
    assert_eq!(valid(fixed, "file"), Ok((true, 3600)));
    assert_eq!(valid(fixed, "absent"), Ok((false, 3600)));
    assert_eq!(valid(work, "file"), Ok((true, 1)));
    assert_eq!(valid(work, "absent"), Err(libc::ENOENT));
}

#[test]
fn attributes_are_set() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let reply = guest.call(opcode::SETATTR, file, setattr(1 | 16 | 32, 0, 0, 0o640, 0)).unwrap();
    let made = std::fs::metadata(guest.host("work/file")).unwrap();
    assert_eq!(made.permissions().mode(), 0o100_640);
    assert_eq!((made.atime(), made.atime_nsec(), made.mtime(), made.mtime_nsec()), (7, 5, 8, 6));
    assert_eq!((u64_at(&reply, 16 + 24), u64_at(&reply, 16 + 32)), (7, 8));
    let directory = guest.look_up(guest.work, "directory").unwrap();
    guest.call(opcode::SETATTR, directory, setattr(1, 0, 0, 0o700, 0)).unwrap();
    assert_eq!(guest.mode_of(directory), 0o040_700);
    assert_eq!(guest.call(opcode::SETATTR, directory, setattr(8, 0, 0, 0, 0)), Err(libc::EISDIR));
    // To the guest's root: this process's user, so never a change that fails.
    assert!(guest.call(opcode::SETATTR, file, setattr(2 | 4, 0, 0, 0, 0)).is_ok());
}

#[test]
fn the_umask_of_this_process_does_not_count() {
    let mut guest = Guest::new();
    let (node, _) = guest.create(guest.work, "open", libc::O_RDWR, 0o666).unwrap();
    assert_eq!(guest.mode_of(node), 0o100_666);
    let made = guest.call(opcode::MKDIR, guest.work, Body::default().u32(0o777).u32(0).name("wide")).unwrap();
    assert_eq!(guest.mode_of(u64_at(&made, 0)), 0o040_777);
}

#[test]
fn ranges_are_copied_allocated_and_sought() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let from = guest.open(file, libc::O_RDONLY).unwrap();
    let (copy, to) = guest.create(guest.work, "copy", libc::O_RDWR, 0o600).unwrap();
    let body = Body::default().u64(from).u64(3).u64(copy).u64(to).u64(0).u64(u64::MAX / 2).u64(0);
    match guest.call(opcode::COPY_FILE_RANGE, file, body) {
        Ok(reply) => {
            assert_eq!(u32_at(&reply, 0), 4);
            assert_eq!(guest.read(copy, to, 0, 10).unwrap(), b"tent");
        }
        Err(errno) => assert!([libc::EXDEV, libc::EOPNOTSUPP].contains(&errno)),
    }
    guest.call(opcode::FALLOCATE, copy, Body::default().u64(to).u64(0).u64(8192).u32(0).u32(0)).unwrap();
    assert_eq!(std::fs::metadata(guest.host("work/copy")).unwrap().len(), 8192);
    let hole = guest.call(opcode::LSEEK, copy, Body::default().u64(to).u64(0).u32(4).u32(0)).unwrap();
    assert!(u64_at(&hole, 0) <= 8192);
    let sync = Body::default().u64(to).u32(1).u32(0);
    assert_eq!(guest.call(opcode::FSYNC, copy, sync), Ok(vec![]));
    assert_eq!(guest.call(opcode::STATFS, copy, Body::default()).map(|reply| reply.len()), Ok(80));
    assert_eq!(guest.call(opcode::STATFS, 1, Body::default()).map(|reply| reply.len()), Ok(80));
}
