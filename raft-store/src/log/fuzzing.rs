//! Doors to the formats of the log for [`crate::fuzzing`].

use std::path::Path;

use crate::disk::{Disk, FaultyDisk, Open};
use crate::log::format::{
    FRAME_HEADER_BYTES, FrameHeader, Marks, SLOT_COPY_BYTES, SegmentHeader, decode_committed, decode_slot,
    encode_committed, encode_slot, segment_name, segment_of_name,
};
use crate::log::slots::Slots;

/// Any bytes as each of them, as they are and with the right checksum.
pub fn formats(bytes: &[u8]) {
    let mut header = [0; FRAME_HEADER_BYTES];
    let count = bytes.len().min(FRAME_HEADER_BYTES);
    header[..count].copy_from_slice(&bytes[..count]);
    headers(&header);
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    headers(&header);
    if let Ok((sequence, value)) = decode_slot(bytes) {
        let value = value.to_vec();
        assert_eq!(
            decode_slot(&encode_slot(sequence, &value)),
            Ok((sequence, value.as_slice()))
        );
    }
    if let Some(marks) = Marks::decode(bytes) {
        assert_eq!(Marks::decode(&marks.encode()), Some(marks));
    }
    if let Some(id) = decode_committed(bytes) {
        assert_eq!(decode_committed(&encode_committed(Some(id))), Some(id));
    }
    if let Some(number) = std::str::from_utf8(bytes).ok().and_then(segment_of_name) {
        assert_eq!(segment_name(number).as_bytes(), bytes);
    }
    slot_file(bytes);
}

fn headers(bytes: &[u8; FRAME_HEADER_BYTES]) {
    if let Ok((frame, _)) = FrameHeader::decode(bytes) {
        let (again, checksum) = frame.encode();
        assert_eq!(FrameHeader::decode(&again), Ok((frame, checksum)));
        assert!(frame.frame_bytes() >= FRAME_HEADER_BYTES as u64 + u64::from(frame.body_len));
    }
    if let Ok((segment, _)) = SegmentHeader::decode(bytes) {
        let (again, checksum) = segment.encode();
        assert_eq!(SegmentHeader::decode(&again), Ok((segment, checksum)));
    }
}

/// Four copies, each intact or damaged as the bytes say, a sequence always with the same value: the newest intact one counts,
/// or it is refused.
fn slot_file(bytes: &[u8]) {
    let disk = FaultyDisk::new(1);
    let path = Path::new("/d/slots");
    let mut newest = None;
    let mut image = vec![0; 4 * SLOT_COPY_BYTES];
    for (number, copy) in bytes.chunks_exact(3).take(4).enumerate() {
        let sequence = u64::from(copy[0]);
        let slot = encode_slot(sequence, &copy[..1]);
        let at = number * SLOT_COPY_BYTES;
        image[at..at + slot.len()].copy_from_slice(&slot);
        if copy[2] % 4 == 3 {
            image[at + usize::from(copy[2]) % slot.len()] ^= 0x20;
        } else {
            newest = newest.max(Some(sequence));
        }
    }
    let made = disk
        .create_dir_all(Path::new("/d"))
        .and_then(|()| disk.open(path, Open::Create)?.write_at(0, &image));
    made.expect("no fault");
    match Slots::peek(&disk, path).expect("no fault") {
        Ok(value) => assert_eq!(value.is_some(), newest.is_some()),
        Err(_) => assert_eq!(newest, None),
    }
}
