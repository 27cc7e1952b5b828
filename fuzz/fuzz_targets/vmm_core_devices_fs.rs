//! The virtio-fs device under a guest that sends any requests: nothing outside its shares is read or changed,
//! nothing in a read-only share is, and nothing appears that could hurt the host.

#![no_main]

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fuzz::Input;
use fuzz::driver::{Driver, Part};
use libfuzzer_sys::fuzz_target;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmm_core::devices::fs::{self as virtio_fs, FsConfig, Share};

/// Never in a reply: it is written in no file that is shared.
const SECRET: &[u8] = b"the-secret-beside-the-shares";
/// Largest file that the guest can make.
const FILE_BYTES_MAX: u64 = 1 << 20;
const REQUESTS_MAX: usize = 48;
const REQUESTS: usize = 1;
const ROOT: u64 = 1;
const INIT: u32 = 26;
const LOOKUP: u32 = 1;
const NAMES: [&str; 12] =
    ["file", "link", "directory", "inner", "..", ".", "new", "secret", "up", "work", "a/b", "fixed"];
/// `fuse_opcode` of linux/fuse.h, those that carry a name twice as often.
const OPCODES: [u32; 40] = [
    1, 1, 2, 3, 4, 4, 5, 6, 6, 8, 8, 9, 9, 10, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17, 18, 20, 27,
    28, 29, 30, 35, 35, 38, 42, 43, 44, 45, 46,
];

fuzz_target!(|bytes: &[u8]| {
    let place = PLACE.get_or_init(Place::new);
    place.fill_work();
    let shares = vec![
        Share { at: "work".into(), source: place.path("work").into(), read_only: false },
        Share { at: "fixed".into(), source: place.path("fixed").into(), read_only: true },
    ];
    let mut device = with_file_limit(|| virtio_fs::new(FsConfig { shares }).expect("a device"));
    let mut guest = Guest { driver: Driver::new(&device), nodes: vec![ROOT], handles: vec![0] };
    let mut input = Input(bytes);
    let fields: Vec<u8> =
        [7, 41, 1 << 20, u32::MAX].iter().flat_map(|field: &u32| field.to_le_bytes()).collect();
    guest.request(&mut device, (INIT, 0), &fields, 256);
    for share in ["work", "fixed"] {
        guest.request(&mut device, (LOOKUP, ROOT), &[share.as_bytes(), &[0]].concat(), 256);
    }
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() {
            break;
        }
        guest.act(&mut device, &mut input);
    }
    drop(device);
    place.check();
});

/// The device reads the process's limit when it is made and keeps to it by itself. For the fuzzer's own output
/// the limit must not last.
fn with_file_limit<T>(make: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(FILE_BYTES_MAX), ..before }).unwrap();
    let made = make();
    setrlimit(Resource::Fsize, before).unwrap();
    made
}

static PLACE: OnceLock<Place> = OnceLock::new();

/// The host's folders, made once: `work` is shared for writing, `fixed` for reading, `secret` lies beside them.
struct Place {
    folder: tempfile::TempDir,
    untouched: Vec<(PathBuf, String)>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        fs::create_dir_all(folder.path().join("fixed/directory/inner")).unwrap();
        fs::write(folder.path().join("fixed/file"), "content").unwrap();
        symlink("../secret", folder.path().join("fixed/link")).unwrap();
        let untouched = Vec::new();
        let mut place = Self { folder, untouched };
        place.untouched = place.state();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fill_work(&self) {
        let work = self.path("work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(work.join("directory/inner")).unwrap();
        fs::write(work.join("file"), "content").unwrap();
        symlink("../secret", work.join("link")).unwrap();
        symlink("..", work.join("up")).unwrap();
    }

    /// All that the guest must not change, as text.
    fn state(&self) -> Vec<(PathBuf, String)> {
        let mut state = Vec::new();
        walk(&self.path("fixed"), &mut |path, about| state.push((path.to_owned(), describe(path, about))));
        let secret = self.path("secret");
        state.push((secret.clone(), describe(&secret, &fs::symlink_metadata(&secret).unwrap())));
        state.sort();
        state
    }

    fn check(&self) {
        assert_eq!(self.state(), self.untouched);
        let mut names: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["fixed", "secret", "work"], "something lies beside the shares");
        walk(&self.path("work"), &mut |path, about| {
            let kind = about.file_type();
            assert!(
                !kind.is_fifo() && !kind.is_char_device() && !kind.is_block_device(),
                "{path:?} is {kind:?}"
            );
            let set_ids = about.mode() & if kind.is_dir() { 0o4000 } else { 0o6000 };
            assert!(kind.is_symlink() || set_ids == 0, "{path:?} has mode {:o}", about.mode());
            assert!(about.len() <= FILE_BYTES_MAX);
        });
    }
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path, &Metadata)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        see(&path, &about);
        if about.is_dir() {
            walk(&path, see);
        }
    }
}

fn describe(path: &Path, about: &Metadata) -> String {
    let content = if about.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    let (mode, owner, links) = (about.mode(), (about.uid(), about.gid()), about.nlink());
    format!("{mode:o} {owner:?} {links} {:?} {}", about.modified(), content.escape_ascii())
}

/// A guest that remembers what it was told.
struct Guest {
    driver: Driver,
    nodes: Vec<u64>,
    handles: Vec<u64>,
}

impl Guest {
    fn act(&mut self, device: &mut virtio_fs::Fs, input: &mut Input<'_>) {
        let opcode = if input.below(16) == 0 { u32::from(input.u8()) } else { input.one(&OPCODES) };
        let node = self.node(input);
        let room = input.one(&[256, 256, 4096, 160, 100, 16, 15, 0]);
        let mut body = Vec::new();
        for _ in 0..input.below(12) {
            match input.below(8) {
                0 | 1 => body.extend(u32::from(input.u8()).to_le_bytes()),
                2 => body.extend(input.u32().to_le_bytes()),
                3 => body.extend(input.one(&self.handles).to_le_bytes()),
                4 => body.extend(self.node(input).to_le_bytes()),
                5 => body.extend_from_slice(&[0; 8]),
                6 => body.extend(input.one(&NAMES).bytes().chain([0])),
                _ => body.extend_from_slice(input.piece()),
            }
        }
        self.request(device, (opcode, node), &body, room);
    }

    fn node(&self, input: &mut Input<'_>) -> u64 {
        if input.below(16) == 0 { input.u64() } else { self.nodes[input.below(self.nodes.len())] }
    }

    fn request(&mut self, device: &mut virtio_fs::Fs, (opcode, node): (u32, u64), body: &[u8], room: u32) {
        let bytes = u32::try_from(40 + body.len()).unwrap();
        let mut request: Vec<u8> = [bytes, opcode].iter().flat_map(|field| field.to_le_bytes()).collect();
        request.extend([1_u64, node].iter().flat_map(|field| field.to_le_bytes()));
        request.extend([0_u8; 16]);
        request.extend_from_slice(body);
        let (head, rest) = request.split_at(40);
        let mut parts = vec![Part::Out(head)];
        if !rest.is_empty() {
            parts.push(Part::Out(rest));
        }
        if room > 0 {
            parts.extend([Part::In(16), Part::In(room)]);
        }
        self.driver.offer(REQUESTS, &parts);
        self.driver.kick(device, REQUESTS);
        while let Some(used) = self.driver.used(REQUESTS) {
            assert!(used.bytes <= room + 16, "more was written than there is room for");
            let reply = self.driver.read(&used);
            assert!(!fuzz::contains(&reply, SECRET), "operation {opcode} told the secret");
            self.remember(opcode, &reply);
        }
    }

    /// Node numbers of entries, and handles of opened files.
    fn remember(&mut self, opcode: u32, reply: &[u8]) {
        let Some((head, payload)) = reply.split_first_chunk::<16>() else { return };
        let bytes = u32::from_le_bytes(*head.first_chunk().unwrap());
        assert_eq!(usize::try_from(bytes).unwrap(), reply.len(), "the reply's length lies");
        let number = |at: usize| payload.get(at..)?.first_chunk().map(|field| u64::from_le_bytes(*field));
        match opcode {
            1 | 6 | 8 | 9 | 13 | 35 if self.nodes.len() < 200 => self.nodes.extend(number(0)),
            _ => {}
        }
        match opcode {
            14 | 27 if self.handles.len() < 200 => self.handles.extend(number(0)),
            35 if self.handles.len() < 200 => self.handles.extend(number(128)),
            _ => {}
        }
    }
}
