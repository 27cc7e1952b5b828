//! Requests that no honest kernel sends. None may panic, hang or touch the host.

use proptest::prelude::*;

use super::*;
use crate::devices::fs::limits::NODES_MAX;

const OPCODES: std::ops::RangeInclusive<u32> = 0..=60;

#[test]
fn a_request_shorter_than_its_header_gets_no_reply() {
    let mut guest = Guest::new();
    for bytes in 0..HEADER_IN_BYTES {
        let mut request = header(opcode::GETATTR, 1, 0);
        request.truncate(bytes);
        assert!(guest.raw(&mut request, 1000).is_empty(), "{bytes}");
    }
}

#[test]
fn a_length_that_lies_is_refused() {
    let mut guest = Guest::new();
    for length in [0, 39, 40, 55, 57, 1 << 20, u32::MAX] {
        let mut request = header(opcode::GETATTR, guest.work, 16);
        request.extend([0; 16]);
        request[..4].copy_from_slice(&length.to_le_bytes());
        let reply = guest.raw(&mut request, 1000);
        assert_eq!(u32_at(&reply, 4).cast_signed(), -libc::EINVAL, "{length}");
    }
}

#[test]
fn a_body_of_any_length_is_survived_by_every_operation() {
    for fill in [0_u8, 1, 0xff] {
        let mut guest = Guest::new();
        for opcode in OPCODES.filter(|code| *code != opcode::INIT && *code != opcode::DESTROY) {
            for bytes in 0..=96 {
                let node = guest.work;
                let _ = guest.send(opcode, node, &vec![fill; bytes], 200);
            }
        }
        // A body of ones is a good SETATTR too: it takes the search permission from the share's root.
        let searchable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(guest.host("work"), searchable).unwrap();
        assert!(guest.host("work/file").exists());
    }
}

#[test]
fn a_short_body_is_refused() {
    let mut guest = Guest::new();
    let minima = [
        (opcode::GETATTR, 16),
        (opcode::SETATTR, 88),
        (opcode::OPEN, 8),
        (opcode::READ, 20),
        (opcode::WRITE, 40),
        (opcode::RELEASE, 8),
        (opcode::READDIR, 20),
        (opcode::READDIRPLUS, 20),
        (opcode::FALLOCATE, 28),
        (opcode::LSEEK, 20),
        (opcode::COPY_FILE_RANGE, 56),
        (opcode::MKDIR, 10),
        (opcode::CREATE, 18),
        (opcode::RENAME2, 20),
    ];
    for (opcode, least) in minima {
        for bytes in 0..least {
            let work = guest.work;
            let reply = guest.send(opcode, work, &vec![0; bytes], 200);
            assert_eq!(reply, Some(Err(libc::EINVAL)), "{opcode} {bytes}");
        }
    }
}

#[test]
fn a_request_longer_than_the_limit_is_refused() {
    let mut guest = Guest::new();
    let long = "x".repeat(70_000);
    assert_eq!(guest.call(opcode::LOOKUP, guest.work, Body::default().name(&long)), Err(libc::EINVAL));
}

#[test]
fn a_room_of_any_size_is_respected() {
    let mut guest = Guest::new();
    let work = guest.work;
    for room in 0..200 {
        let reply = guest.send(opcode::LOOKUP, work, b"file\0", room);
        match room {
            0..16 => assert_eq!(reply, None, "{room}"),
            16..144 => assert_eq!(reply, Some(Err(libc::EOVERFLOW)), "{room}"),
            _ => assert!(matches!(reply, Some(Ok(_))), "{room}"),
        }
    }
    let file = guest.look_up(work, "file").unwrap();
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    for room in 16..30 {
        let reply = guest.send(opcode::READ, file, &transfer(handle, 0, u32::MAX, 0).0, room);
        assert_eq!(reply.unwrap().unwrap().len(), (room - 16).min(7), "{room}");
    }
    let directory = guest.open_directory(work).unwrap();
    for room in 16..400 {
        for opcode in [opcode::READDIR, opcode::READDIRPLUS] {
            let reply = guest.send(opcode, work, &transfer(directory, 0, u32::MAX, 0).0, room);
            names(&reply.unwrap().unwrap(), opcode == opcode::READDIRPLUS);
        }
    }
}

#[test]
fn nodes_that_were_never_given_out_are_refused() {
    let mut guest = Guest::new();
    for node in [0, 6, 1000, u64::MAX / 2, u64::MAX] {
        assert_eq!(guest.look_up(node, "file"), Err(libc::ESTALE), "{node}");
        assert_eq!(guest.open(node, libc::O_RDONLY), Err(libc::ESTALE), "{node}");
        let rename = Body::default().u64(node).name("file").name("moved");
        assert_eq!(guest.call(opcode::RENAME, guest.work, rename), Err(libc::ESTALE), "{node}");
        guest.send(opcode::FORGET, node, &u64::MAX.to_le_bytes(), 0);
    }
}

#[test]
fn handles_are_good_for_their_own_node_only() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let handle = guest.open(file, libc::O_RDWR).unwrap();
    let directory = guest.open_directory(guest.work).unwrap();
    for (node, handle) in
        [(guest.work, handle), (file, 0), (file, u64::MAX), (file, handle + 100), (file, directory)]
    {
        assert_eq!(guest.read(node, handle, 0, 10), Err(libc::EBADF), "{node} {handle}");
        assert_eq!(guest.write(node, handle, 0, b"x"), Err(libc::EBADF), "{node} {handle}");
    }
    assert_eq!(guest.read(guest.work, directory, 0, 10), Err(libc::EISDIR));
    assert_eq!(guest.write(guest.work, directory, 0, b"x"), Err(libc::EISDIR));
    let list = guest.call(opcode::READDIR, file, transfer(handle, 0, 1000, 0));
    assert_eq!(list, Err(libc::ENOTDIR));
    // A handle opened for reading does not write, whatever the guest thinks of it.
    let reading = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.write(file, reading, 0, b"x"), Err(libc::EBADF));
    let close = |handle: u64| Body::default().u64(handle).u32(0).u32(0).u64(0);
    assert!(guest.call(opcode::RELEASE, file, close(handle)).is_ok());
    assert_eq!(guest.call(opcode::RELEASE, file, close(handle)), Err(libc::EBADF));
}

#[test]
fn positions_and_lengths_out_of_range_are_refused() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let handle = guest.open(file, libc::O_RDWR).unwrap();
    for offset in [1 << 63, u64::MAX] {
        assert_eq!(guest.read(file, handle, offset, 10), Err(libc::EINVAL));
        assert_eq!(guest.write(file, handle, offset, b"x"), Err(libc::EINVAL));
    }
    // Beyond the process's file size limit the kernel would send a deadly SIGXFSZ.
    assert_eq!(guest.write(file, handle, 1 << 40, b"x"), Err(libc::EFBIG));
    assert_eq!(guest.call(opcode::SETATTR, file, setattr(8, 0, (1 << 40) + 1, 0, 0)), Err(libc::EFBIG));
    let allocate =
        |from: u64, bytes: u64, mode| Body::default().u64(handle).u64(from).u64(bytes).u32(mode).u32(0);
    assert_eq!(guest.call(opcode::FALLOCATE, file, allocate(1 << 40, 1, 0)), Err(libc::EFBIG));
    assert_eq!(guest.call(opcode::FALLOCATE, file, allocate(i64::MAX as u64, 1, 0)), Err(libc::EFBIG));
    assert_eq!(guest.call(opcode::FALLOCATE, file, allocate(u64::MAX, 1, 0)), Err(libc::EINVAL));
    for mode in [4, 8, 0x20, 0x40, u32::MAX] {
        assert_eq!(
            guest.call(opcode::FALLOCATE, file, allocate(0, 1, mode)),
            Err(libc::EOPNOTSUPP),
            "{mode}"
        );
    }
    for whence in [0, 1, 2, 5, u32::MAX] {
        let body = Body::default().u64(handle).u64(0).u32(whence).u32(0);
        assert_eq!(guest.call(opcode::LSEEK, file, body), Err(libc::EINVAL), "{whence}");
    }
    let mut lying = transfer(handle, 0, 100, 0);
    lying.0.push(b'x');
    assert_eq!(guest.call(opcode::WRITE, file, lying), Err(libc::EINVAL));
    let times = setattr(16, 0, 0, 0, 0);
    let mut special = times.0.clone();
    special[56..60].copy_from_slice(&0x3fff_ffff_u32.to_le_bytes());
    assert_eq!(guest.call(opcode::SETATTR, file, Body(special)), Err(libc::EINVAL));
    assert_eq!(guest.call(opcode::SETATTR, file, setattr(2, 0, 0, 0, u32::MAX)), Err(libc::EINVAL));
    assert_eq!(std::fs::read_to_string(guest.host("work/file")).unwrap(), "content");
}

#[test]
fn counts_that_lie_are_survived() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let before = guest.server.nodes.len();
    let body = Body::default().u32(u32::MAX).u32(0).u64(file).u64(1).u64(guest.work).u64(9).u64(3);
    assert_eq!(guest.send(opcode::BATCH_FORGET, 0, &body.0, 100), None);
    assert_eq!(guest.server.nodes.len(), before - 1);
    assert!(guest.look_up(guest.work, "file").is_ok());
}

#[test]
fn nothing_is_served_before_init_and_nothing_survives_a_second() {
    let mut guest = Guest::new();
    let file = guest.look_up(guest.work, "file").unwrap();
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    guest.init().unwrap();
    assert_eq!(guest.read(file, handle, 0, 10), Err(libc::EBADF));
    assert_eq!(guest.open(file, libc::O_RDONLY), Err(libc::ESTALE));
    assert_eq!(guest.call(opcode::DESTROY, 0, Body::default()), Ok(vec![]));
    for opcode in OPCODES.filter(|code| *code != opcode::INIT && *code != 2 && *code != 42) {
        let reply = guest.call(opcode, guest.work, Body::default().name("file"));
        assert_eq!(reply, Err(libc::EIO), "{opcode}");
    }
}

#[test]
fn old_and_future_protocols_are_answered() {
    let mut guest = Guest::new();
    let mut init = |major, minor| {
        guest.call(opcode::INIT, 0, Body::default().u32(major).u32(minor).u32(0).u32(u32::MAX))
    };
    assert_eq!(init(6, 99), Err(libc::EPROTO));
    assert_eq!(init(7, 30), Err(libc::EPROTO));
    assert_eq!(u32_at(&init(8, 0).unwrap(), 0), 7);
    let agreed = init(7, 31).unwrap();
    assert_eq!((u32_at(&agreed, 0), u32_at(&agreed, 20), agreed.len()), (7, 1 << 20, 64));
}

#[test]
fn handles_and_directory_descriptors_are_bounded() {
    let mut guest = Guest::new();
    for index in 0..40 {
        std::fs::create_dir_all(guest.host("work").join(format!("{index}/a"))).unwrap();
        let node = guest.walk(guest.work, &format!("{index}/a"));
        let _ = guest.look_up(node, "x");
    }
    assert!(guest.server.nodes.directory_fds() <= 16);
    let file = guest.look_up(guest.work, "file").unwrap();
    let opened = (0..100).map(|_| guest.open(file, libc::O_RDONLY)).filter(Result::is_ok).count();
    assert_eq!(opened, 64);
    assert_eq!(guest.open(file, libc::O_RDONLY), Err(libc::ENFILE));
    assert_eq!(guest.create(guest.work, "more", libc::O_RDWR, 0o600), Err(libc::ENFILE));
    assert!(!guest.host("work/more").exists());
    assert_eq!(guest.open_directory(guest.work), Err(libc::ENFILE));
    const { assert!(NODES_MAX <= 1 << 20) };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of any requests: no panic, no byte of the secret, nothing changed where it may not be.
    #[test]
    fn random_requests_are_survived(requests in prop::collection::vec(
        (OPCODES, 0_u64..12, prop::collection::vec(any::<u8>(), 0..120), 0_usize..300), 1..40)
    ) {
        let mut guest = Guest::new();
        for (opcode, node, body, room) in requests {
            let _ = guest.send(opcode, node, &body, room);
        }
        prop_assert_eq!(std::fs::read_to_string(guest.host("secret")).unwrap(), "the secret");
        prop_assert_eq!(std::fs::read_to_string(guest.host("fixed/file")).unwrap(), "content");
    }

    /// The same with fields that look right, which get further.
    #[test]
    fn plausible_requests_are_survived(requests in prop::collection::vec(
        (OPCODES, 0_u64..12, prop::collection::vec(0_u64..6, 0..12),
         prop::sample::select(vec!["file", "link", "directory", "inner", "..", "new", "secret", "x"])), 1..60)
    ) {
        let mut guest = Guest::new();
        for (opcode, node, fields, name) in requests {
            let body = fields.into_iter().fold(Body::default(), Body::u64).name(name).name("new");
            let reply = guest.send(opcode, node, &body.0, 500);
            if let Some(Ok(bytes)) = reply {
                prop_assert!(opcode != opcode::READ || !bytes.starts_with(b"root:"));
            }
        }
        prop_assert_eq!(std::fs::read_to_string(guest.host("secret")).unwrap(), "the secret");
        prop_assert_eq!(std::fs::read_to_string(guest.host("fixed/file")).unwrap(), "content");
        prop_assert_eq!(std::fs::read_dir(guest.folder.path()).unwrap().count(), 3);
    }
}
