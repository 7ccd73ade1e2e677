//! Every byte that the log keeps in files. All numbers are little endian.
//!
//! A segment file `<id, 20 digits>.segment`: a header, then frames, each at a multiple of 8 bytes, then zeros.
//!
//! ```text
//! segment header                           frame header, then the body, then zeros up to a multiple of 8
//!  0 u32 magic "LMQS"                       0 u32 magic "LMQF"
//!  4 u8  version = 1                        4 u8  version = 1
//!  5 u8  flags: 1 = nothing was before,     5 u8  kind: 1 blank, 2 commands, 3 membership, 4 seal
//!  6 u16 0                                  6 u16 0
//!  8 u64 segment id                         8 u64 segment id
//! 16 u64 index of its first entry          16 u64 term      (of a seal: of the entry before it)
//! 24 u64 term of the entry before          24 u64 index     (of a seal: of the entry before it)
//! 32 u32 generation: drawn for each use     32 u64 durable end: entries below this index are durable here
//! 36 24 bytes 0                            40 u32 durable position: bytes of this file below it are durable
//! 60 u32 checksum                          44 u32 generation of the segment
//!                                          48 u32 length of the body, 0 allowed
//!                                          52 u32 CRC32C of the body
//!                                          56 u32 checksum of the frame (or segment header) before
//!                                          60 u32 checksum
//! ```
//!
//! A checksum is the CRC32C of the 60 bytes before it. Since it covers the checksum of the frame before, frames form a
//! chain that starts at the segment's id and generation: bytes that an earlier use of the place left behind do not
//! continue it. The link is stored as well as covered, so a header can be read on its own when the one before it is
//! damaged; that is what lets recovery tell a torn tail from corruption.
//!
//! A slot file (`vote`, `marks`, `committed`) has two slots of two equal copies each, at 0, 4096 | 8192, 12288:
//!
//! ```text
//!  0 u32 magic "LMQV"   4 u8 version = 1   5 3 bytes 0   8 u64 sequence
//! 16 u32 length         20 u32 CRC32C of bytes 0..20 and of the value          24 value
//! ```

use crate::types::{EntryId, LogIndex, Term};

/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Frames start at multiples of this.
pub const ALIGNMENT: usize = 8;
/// Bytes of one copy of a slot.
pub const SLOT_COPY_BYTES: usize = 4096;
/// Bytes of a slot's header.
pub const SLOT_HEADER_BYTES: usize = 24;
/// Largest value of a slot.
pub const SLOT_VALUE_BYTES_MAX: usize = SLOT_COPY_BYTES - SLOT_HEADER_BYTES;

const SEGMENT_MAGIC: [u8; 4] = *b"LMQS";
/// What every frame starts with.
pub const FRAME_MAGIC: [u8; 4] = *b"LMQF";
const SLOT_MAGIC: [u8; 4] = *b"LMQV";
const VERSION: u8 = 1;
const FLAG_START: u8 = 1;
const FLAG_RECYCLED: u8 = 2;
const CHECKSUM_AT: usize = 60;

const _: () = assert!(CHECKSUM_AT + 4 == SEGMENT_HEADER_BYTES && CHECKSUM_AT + 4 == FRAME_HEADER_BYTES);
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(ALIGNMENT) && SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// What a frame is. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredKind {
    /// A new leader's first entry.
    Blank = 1,
    /// A batch of commands.
    Commands = 2,
    /// A membership.
    Membership = 3,
    /// No entry: only says what is durable.
    Seal = 4,
}

impl StoredKind {
    fn of(byte: u8) -> Option<StoredKind> {
        match byte {
            1 => Some(StoredKind::Blank),
            2 => Some(StoredKind::Commands),
            3 => Some(StoredKind::Membership),
            4 => Some(StoredKind::Seal),
            _ => None,
        }
    }
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Nothing was written there.
    #[error("nothing but zeros")]
    Zeros,
    /// Something else was.
    #[error("no frame starts there")]
    Magic,
    /// The checksum is wrong.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// An intact header of another version.
    #[error("format version {0} is not known")]
    Version(u8),
    /// An intact header that says what is not known.
    #[error("kind of frame {0} is not known")]
    Kind(u8),
}

/// The start of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Number of the segment; grows along the log.
    pub segment: u64,
    /// Drawn at random for each use of a file, so that nobody can foresee what frames of it look like.
    pub generation: u32,
    /// Index of its first entry.
    pub first: LogIndex,
    /// Term of the entry before; zero when there is none.
    pub term_before: Term,
    /// The log was empty before this segment.
    pub start: bool,
    /// The file was another segment before: behind the last frame are old bytes, no zeros.
    pub recycled: bool,
}

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: StoredKind,
    /// Segment that it belongs to.
    pub segment: u64,
    /// Generation of that segment.
    pub generation: u32,
    /// The entry; of a seal, the entry before it.
    pub id: EntryId,
    /// Entries below this index were durable here when the frame was written.
    pub durable_end: u64,
    /// Bytes of the segment below this position were durable when the frame was written.
    pub durable_position: u32,
    /// Length of the body.
    pub body_len: u32,
    /// CRC32C of the body.
    pub body_crc: u32,
    /// Checksum of the header before.
    pub previous: u32,
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The little-endian u32 at a place of bytes that hold it.
pub fn take_u32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The little-endian u64 at a place of bytes that hold it.
pub fn take_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Puts the checksum of a header of 64 bytes into its place and answers it.
fn seal_header(bytes: &mut [u8; 64]) -> u32 {
    let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
    put_u32(bytes, CHECKSUM_AT, checksum);
    checksum
}

/// Checks magic, checksum and version of a header of 64 bytes and answers the checksum.
fn checked(bytes: &[u8; 64], magic: [u8; 4]) -> Result<u32, HeaderError> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(HeaderError::Zeros);
    }
    if bytes[..4] != magic {
        return Err(HeaderError::Magic);
    }
    let checksum = take_u32(bytes, CHECKSUM_AT);
    if crc32c::crc32c(&bytes[..CHECKSUM_AT]) != checksum {
        return Err(HeaderError::Checksum);
    }
    if bytes[4] != VERSION {
        return Err(HeaderError::Version(bytes[4]));
    }
    Ok(checksum)
}

impl SegmentHeader {
    /// The bytes, and their checksum, which the first frame continues.
    pub fn encode(&self) -> ([u8; SEGMENT_HEADER_BYTES], u32) {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..4].copy_from_slice(&SEGMENT_MAGIC);
        bytes[4] = VERSION;
        bytes[5] = if self.start { FLAG_START } else { 0 } | if self.recycled { FLAG_RECYCLED } else { 0 };
        put_u64(&mut bytes, 8, self.segment);
        put_u64(&mut bytes, 16, self.first.get());
        put_u64(&mut bytes, 24, self.term_before.get());
        put_u32(&mut bytes, 32, self.generation);
        let checksum = seal_header(&mut bytes);
        (bytes, checksum)
    }

    /// The header in these bytes, and its checksum.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<(SegmentHeader, u32), HeaderError> {
        let checksum = checked(bytes, SEGMENT_MAGIC)?;
        let header = SegmentHeader {
            segment: take_u64(bytes, 8),
            generation: take_u32(bytes, 32),
            first: LogIndex(take_u64(bytes, 16)),
            term_before: Term(take_u64(bytes, 24)),
            start: bytes[5] & FLAG_START != 0,
            recycled: bytes[5] & FLAG_RECYCLED != 0,
        };
        Ok((header, checksum))
    }
}

impl FrameHeader {
    /// The bytes, and their checksum, which the next frame continues.
    pub fn encode(&self) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        put_u64(&mut bytes, 8, self.segment);
        put_u64(&mut bytes, 16, self.id.term.get());
        put_u64(&mut bytes, 24, self.id.index.get());
        put_u64(&mut bytes, 32, self.durable_end);
        put_u32(&mut bytes, 40, self.durable_position);
        put_u32(&mut bytes, 44, self.generation);
        put_u32(&mut bytes, 48, self.body_len);
        put_u32(&mut bytes, 52, self.body_crc);
        put_u32(&mut bytes, 56, self.previous);
        let checksum = seal_header(&mut bytes);
        (bytes, checksum)
    }

    /// The header in these bytes, and its checksum. Whether it continues the chain is for the caller to compare.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<(FrameHeader, u32), HeaderError> {
        let checksum = checked(bytes, FRAME_MAGIC)?;
        let header = FrameHeader {
            kind: StoredKind::of(bytes[5]).ok_or(HeaderError::Kind(bytes[5]))?,
            segment: take_u64(bytes, 8),
            generation: take_u32(bytes, 44),
            id: EntryId::new(take_u64(bytes, 16), take_u64(bytes, 24)),
            durable_end: take_u64(bytes, 32),
            durable_position: take_u32(bytes, 40),
            body_len: take_u32(bytes, 48),
            body_crc: take_u32(bytes, 52),
            previous: take_u32(bytes, 56),
        };
        Ok((header, checksum))
    }

    /// Whether a frame header of any version is of this segment. The old bytes of a recycled file may be anybody's message.
    pub fn names(bytes: &[u8], segment: &SegmentHeader) -> bool {
        bytes.len() >= FRAME_HEADER_BYTES
            && (take_u64(bytes, 8), take_u32(bytes, 44)) == (segment.segment, segment.generation)
    }

    /// Bytes of the whole frame in the file.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.body_len as usize)
    }
}

/// Bytes that a frame with a body of this length takes in the file.
pub fn frame_bytes(body_len: usize) -> u64 {
    (FRAME_HEADER_BYTES + body_len.next_multiple_of(ALIGNMENT)) as u64
}

/// One copy of a slot. Panics when the value is larger than [`SLOT_VALUE_BYTES_MAX`].
pub fn encode_slot(sequence: u64, value: &[u8]) -> Vec<u8> {
    assert!(value.len() <= SLOT_VALUE_BYTES_MAX);
    let mut bytes = vec![0; SLOT_HEADER_BYTES + value.len()];
    bytes[..4].copy_from_slice(&SLOT_MAGIC);
    bytes[4] = VERSION;
    put_u64(&mut bytes, 8, sequence);
    put_u32(&mut bytes, 16, value.len() as u32);
    bytes[SLOT_HEADER_BYTES..].copy_from_slice(value);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), value);
    put_u32(&mut bytes, 20, checksum);
    bytes
}

/// The sequence and the value of one copy of a slot.
pub fn decode_slot(bytes: &[u8]) -> Result<(u64, &[u8]), HeaderError> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(HeaderError::Zeros);
    }
    if bytes.len() < SLOT_HEADER_BYTES || bytes[..4] != SLOT_MAGIC {
        return Err(HeaderError::Magic);
    }
    let end = SLOT_HEADER_BYTES.saturating_add(take_u32(bytes, 16) as usize);
    let value = bytes.get(SLOT_HEADER_BYTES..end).ok_or(HeaderError::Checksum)?;
    if crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), value) != take_u32(bytes, 20) {
        return Err(HeaderError::Checksum);
    }
    if bytes[4] != VERSION {
        return Err(HeaderError::Version(bytes[4]));
    }
    Ok((take_u64(bytes, 8), value))
}

/// A truncation that has begun: everything from a position of a segment on is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Segments above this one go whole; 0 when all go.
    pub segment: u64,
    /// This segment loses its bytes from here on; `u64::MAX` when it stays whole.
    pub position: u64,
    /// Nothing was written to it from here on.
    pub until: u64,
}

/// What the file `marks` holds.
///
/// ```text
///  0 u8 flags: 1 = purged, 2 = cut    1 u64 term    9 u64 index    17 u64 segment    25 u64 position    33 u64 until
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Newest purged entry.
    pub purged: Option<EntryId>,
    /// Truncation to be finished.
    pub cut: Option<Cut>,
}

const MARKS_BYTES: usize = 41;

impl Marks {
    /// The value of the slot.
    pub fn encode(&self) -> [u8; MARKS_BYTES] {
        let mut bytes = [0; MARKS_BYTES];
        if let Some(purged) = self.purged {
            bytes[0] |= 1;
            put_u64(&mut bytes, 1, purged.term.get());
            put_u64(&mut bytes, 9, purged.index.get());
        }
        if let Some(cut) = self.cut {
            bytes[0] |= 2;
            put_u64(&mut bytes, 17, cut.segment);
            put_u64(&mut bytes, 25, cut.position);
            put_u64(&mut bytes, 33, cut.until);
        }
        bytes
    }

    /// The marks in the value of a slot; `None` when they are of another shape.
    pub fn decode(bytes: &[u8]) -> Option<Marks> {
        if bytes.len() != MARKS_BYTES || bytes[0] > 3 {
            return None;
        }
        let purged = EntryId::new(take_u64(bytes, 1), take_u64(bytes, 9));
        let cut = Cut {
            segment: take_u64(bytes, 17),
            position: take_u64(bytes, 25),
            until: take_u64(bytes, 33),
        };
        Some(Marks {
            purged: (bytes[0] & 1 != 0).then_some(purged),
            cut: (bytes[0] & 2 != 0).then_some(cut),
        })
    }
}

/// The value of the file `committed`: `0 u8 present, 1 u64 term, 9 u64 index`.
pub fn encode_committed(id: Option<EntryId>) -> [u8; 17] {
    let mut bytes = [0; 17];
    if let Some(id) = id {
        bytes[0] = 1;
        put_u64(&mut bytes, 1, id.term.get());
        put_u64(&mut bytes, 9, id.index.get());
    }
    bytes
}

/// The id in the value of the file `committed`; `None` also when it is of another shape.
pub fn decode_committed(bytes: &[u8]) -> Option<EntryId> {
    (bytes.len() == 17 && bytes[0] == 1).then(|| EntryId::new(take_u64(bytes, 1), take_u64(bytes, 9)))
}

/// Name of a segment's file.
pub fn segment_name(segment: u64) -> String {
    format!("{segment:020}.segment")
}

/// Name of the file of a purged segment that is kept to be written over.
pub fn spare_name(segment: u64) -> String {
    format!("{segment:020}.spare")
}

/// Number of the purged segment whose file of this name is kept to be written over.
pub fn segment_of_spare(name: &str) -> Option<u64> {
    number_of_name(name, ".spare")
}

/// Name of the file of a segment that is being made.
pub fn unmade_name(segment: u64) -> String {
    format!("{segment:020}.new")
}

/// Whether the file of this name was to become a segment.
pub fn is_unmade_name(name: &str) -> bool {
    name.ends_with(".new")
}

/// The 20 digits before the suffix of a file's name.
pub fn number_of_name(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

/// Number of the segment whose file has this name.
pub fn segment_of_name(name: &str) -> Option<u64> {
    number_of_name(name, ".segment")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_header() -> impl Strategy<Value = FrameHeader> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let words = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
        (1..=4_u8, numbers, words).prop_map(|(kind, numbers, words)| FrameHeader {
            kind: StoredKind::of(kind).expect("is one"),
            segment: numbers.0,
            generation: words.0,
            id: EntryId::new(numbers.1, numbers.2),
            durable_end: numbers.3,
            durable_position: words.1,
            body_len: words.2,
            body_crc: words.3,
            previous: words.4,
        })
    }

    proptest! {
        #[test]
        fn frame_round_trip(header in frame_header()) {
            let (bytes, checksum) = header.encode();
            prop_assert_eq!(FrameHeader::decode(&bytes), Ok((header, checksum)));
        }

        #[test]
        fn a_flipped_bit_is_seen(header in frame_header(), bit in 0..512_usize) {
            let (mut bytes, _) = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FrameHeader::decode(&bytes).is_err());
        }

        #[test]
        fn segment_round_trip(id: u64, generation: u32, first: u64, term: u64, flags: (bool, bool), bit in 0..512_usize) {
            let (first, term_before) = (LogIndex(first), Term(term));
            let (start, recycled) = flags;
            let header = SegmentHeader { segment: id, generation, first, term_before, start, recycled };
            let (mut bytes, checksum) = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok((header, checksum)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
            prop_assert_eq!(segment_of_name(&segment_name(id)), Some(id));
        }

        #[test]
        fn slot_round_trip(sequence: u64, value in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index) {
            let mut bytes = encode_slot(sequence, &value);
            prop_assert_eq!(decode_slot(&bytes), Ok((sequence, value.as_slice())));
            let at = at.index(bytes.len());
            bytes[at] ^= 0x10;
            prop_assert!(decode_slot(&bytes).is_err());
        }

        #[test]
        fn marks_round_trip(purged: Option<(u64, u64)>, cut: Option<(u64, u64, u64)>) {
            let purged = purged.map(|(term, index)| EntryId::new(term, index));
            let marks = Marks { purged, cut: cut.map(|(segment, position, until)| Cut { segment, position, until }) };
            prop_assert_eq!(Marks::decode(&marks.encode()), Some(marks));
            prop_assert_eq!(decode_committed(&encode_committed(purged)), purged);
        }

        #[test]
        fn any_bytes_decode_to_something(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut header = [0; 64];
            let count = bytes.len().min(64);
            header[..count].copy_from_slice(&bytes[..count]);
            let _ = (FrameHeader::decode(&header), SegmentHeader::decode(&header));
            let _ = (decode_slot(&bytes), Marks::decode(&bytes), decode_committed(&bytes));
        }
    }
}
