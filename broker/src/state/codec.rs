//! Reading and writing of bytes for all formats of the state: little-endian numbers, varints, and lengths before
//! what they measure. Reading never panics and never allocates more than the bytes at hand justify.

use bytes::{Bytes, BytesMut};

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{what} ends too early")]
    Short {
        /// What was read.
        what: &'static str,
    },
    /// Bytes are left over.
    #[error("{what} is followed by {count} bytes")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// This release does not know the version. The replica must stop, not skip it.
    #[error("{what} has version {version}, known is {known}")]
    Version {
        /// What was read.
        what: &'static str,
        /// As found.
        version: u8,
        /// What this release writes.
        known: u8,
    },
    /// This release does not know the kind. The replica must stop, not skip it.
    #[error("{what} has the unknown kind {kind}")]
    Kind {
        /// What was read.
        what: &'static str,
        /// As found.
        kind: u8,
    },
    /// A field holds what it can't.
    #[error("{what} is out of bounds")]
    Bounds {
        /// The field.
        what: &'static str,
    },
    /// A text is not UTF-8.
    #[error("{what} is no text")]
    Text {
        /// The field.
        what: &'static str,
    },
}

/// The difference of two numbers, small whichever is larger.
pub(crate) fn zigzag(from: u64, to: u64) -> u64 {
    let difference = to.wrapping_sub(from) as i64;
    ((difference << 1) ^ (difference >> 63)) as u64
}

/// The number at this difference.
pub(crate) fn unzigzag(from: u64, code: u64) -> u64 {
    let difference = (code >> 1) ^ (code & 1).wrapping_neg();
    from.wrapping_add(difference)
}

/// Appends numbers and texts.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: BytesMut,
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer {
            bytes: BytesMut::with_capacity(capacity),
        }
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.extend_from_slice(&[value]);
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Seven bits a byte, low ones first, the top bit set on all but the last byte.
    pub fn varint(&mut self, mut value: u64) {
        let mut bytes = [0u8; 10];
        let mut length = 0;
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            bytes[length] = if value == 0 { low } else { low | 0x80 };
            length += 1;
            if value == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&bytes[..length]);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A varint length, then the text.
    pub fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.raw(text.as_bytes());
    }

    /// All so far.
    pub fn written(&self) -> &[u8] {
        &self.bytes
    }

    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    pub fn into_vec(self) -> Vec<u8> {
        self.bytes.into()
    }
}

/// Takes numbers and texts off the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { what, bytes }
    }

    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        if self.bytes.len() < count {
            return Err(DecodeError::Short { what: self.what });
        }
        let (head, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn id16(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }

    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..).step_by(7).take(10) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Bounds { what: self.what })
    }

    pub fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Bounds { what: self.what })
    }

    /// A number of elements, each of which takes at least `least` bytes.
    pub fn count(&mut self, least: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Bounds { what: self.what })?;
        match count.checked_mul(least.max(1)) {
            Some(bytes) if bytes <= self.left() => Ok(count),
            _ => Err(DecodeError::Short { what: self.what }),
        }
    }

    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Bounds { what: self.what }),
        }
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.count(1)?;
        std::str::from_utf8(self.raw(length)?).map_err(|_| DecodeError::Text { what: self.what })
    }

    pub fn version(&mut self, known: u8) -> Result<(), DecodeError> {
        match self.u8()? {
            version if version == known => Ok(()),
            version => Err(DecodeError::Version {
                what: self.what,
                version,
                known,
            }),
        }
    }

    pub fn end(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { what: self.what, count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut writer = Writer::default();
            writer.varint(value);
            let bytes = writer.finish();
            let mut reader = Reader::new("number", &bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Reader::new("number", &bytes).varint();
            let _ = Reader::new("text", &bytes).text();
        }
    }
}
