use std::fs::File;
use std::io::{Read, Seek, Write};

use super::*;
use crate::devices::Device;
use crate::devices::driver::{Driver, Part};

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const OK: u8 = 0;
const FAILED: u8 = 1;
const UNSUPPORTED: u8 = 2;
const SECTORS: u64 = 8;

fn image() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..u8::try_from(SECTORS).unwrap() {
        file.write_all(&[sector; 512]).unwrap();
    }
    file.write_all(b"beyond the last whole sector").unwrap();
    file
}

fn disk(read_only: bool) -> (Blk, Driver, File) {
    let file = image();
    let config = BlkConfig { read_only, serial: "serial-1".into() };
    let disk = Blk::new(file.try_clone().unwrap(), config).unwrap();
    let driver = Driver::new(&disk);
    (disk, driver, file)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [kind.to_le_bytes().as_slice(), &[0; 4], &sector.to_le_bytes()].concat()
}

fn content(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Sends one request; the answer is data and status.
fn request(disk: &mut Blk, driver: &mut Driver, parts: &[Part<'_>]) -> (Vec<u8>, u8, u32) {
    let answer = driver.offer(0, parts);
    driver.kick(disk, 0);
    let used = driver.used(0);
    let mut data = driver.read(answer);
    let status = data.pop().unwrap_or(u8::MAX);
    (data, status, used[0])
}

#[test]
fn sectors_are_read_wherever_the_descriptors_are_cut() {
    let (mut disk, mut driver, _) = disk(true);
    let header = header(READ, 3);
    let whole = request(&mut disk, &mut driver, &[Part::Out(&header), Part::In(1024), Part::In(1)]);
    let cut = [Part::Out(&header[..5]), Part::Out(&header[5..]), Part::In(1000), Part::In(25)];
    let pieces = request(&mut disk, &mut driver, &cut);
    assert_eq!(whole, ([[3; 512], [4; 512]].concat(), OK, 1025));
    assert_eq!(pieces, whole);
}

#[test]
fn sectors_are_written_and_flushed() {
    let (mut disk, mut driver, file) = disk(false);
    let data = [0xaa; 512];
    let parts = [Part::Out(&header(WRITE, 7)), Part::Out(&data), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &parts), (vec![], OK, 1));
    assert_eq!(request(&mut disk, &mut driver, &[Part::Out(&header(FLUSH, 0)), Part::In(1)]).1, OK);
    let content = content(file);
    assert_eq!(content[7 * 512..8 * 512], data);
    assert_eq!(content[8 * 512..], *b"beyond the last whole sector");
}

#[test]
fn a_read_only_disk_is_not_written_whatever_the_driver_negotiated() {
    let (mut disk, mut driver, file) = disk(true);
    let before = content(file.try_clone().unwrap());
    assert_ne!(disk.features() & 1 << 5, 0);
    let parts = [Part::Out(&header(WRITE, 0)), Part::Out(&[0xaa; 512]), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &parts).1, FAILED);
    assert_eq!(content(file), before);
}

#[test]
fn nothing_beyond_the_capacity_is_reached() {
    let (mut disk, mut driver, file) = disk(false);
    let before = content(file.try_clone().unwrap());
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, u64::MAX / 512 + 1, 1 << 55] {
        let read = [Part::Out(&header(READ, sector)), Part::In(1024), Part::In(1)];
        assert_eq!(request(&mut disk, &mut driver, &read).1, FAILED, "{sector}");
        let write = [Part::Out(&header(WRITE, sector)), Part::Out(&[1; 1024]), Part::In(1)];
        assert_eq!(request(&mut disk, &mut driver, &write).1, FAILED, "{sector}");
    }
    assert_eq!(content(file), before);
}

#[test]
fn lengths_that_are_no_whole_sectors_and_short_headers_fail() {
    let (mut disk, mut driver, _) = disk(false);
    let read = [Part::Out(&header(READ, 0)), Part::In(511), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &read).1, FAILED);
    let short = [Part::Out(&header(READ, 0)[..15]), Part::In(512), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &short).1, FAILED);
    // No byte to put the status into.
    assert_eq!(request(&mut disk, &mut driver, &[Part::Out(&header(READ, 0))]).2, 0);
}

#[test]
fn serial_number_and_unknown_requests() {
    let (mut disk, mut driver, _) = disk(false);
    let id = [Part::Out(&header(GET_ID, 0)), Part::In(20), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &id).0, *b"serial-1\0\0\0\0\0\0\0\0\0\0\0\0");
    let discard = [Part::Out(&header(11, 0)), Part::Out(&[0; 16]), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &discard).1, UNSUPPORTED);
    let too_long = BlkConfig { serial: "x".repeat(SERIAL_BYTES_MAX + 1), ..BlkConfig::default() };
    assert!(Blk::new(image(), too_long).is_err());
}

#[test]
fn configuration_tells_capacity_and_limits() {
    let (disk, _, _) = disk(false);
    let mut config = [0xff; 20];
    disk.read_config(0, &mut config);
    assert_eq!(config[..8], SECTORS.to_le_bytes());
    assert_eq!(config[12..16], SEGMENTS_MAX.to_le_bytes());
    assert_eq!(config[16..], [0; 4]);
    let mut far = [0xff; 4];
    disk.read_config(u32::MAX, &mut far);
    assert_eq!(far, [0; 4]);
}

#[test]
fn a_file_cut_short_is_an_error_not_zeroes() {
    let (mut disk, mut driver, file) = disk(true);
    file.set_len(512).unwrap();
    let read = [Part::Out(&header(READ, 1)), Part::In(512), Part::In(1)];
    assert_eq!(request(&mut disk, &mut driver, &read).1, FAILED);
}
