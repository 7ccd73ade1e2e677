//! The body of an entry of commands.
//!
//! ```text
//! count: u32 | count x ( length: u32 | bytes )          little endian
//!                                      ^ a command's slot is the offset of its first byte
//! ```
//!
//! A body is at most [`limits::PEER_MESSAGE_BYTES_MAX`] long, so a slot fits in 32 bits.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits;

/// Why bytes are not a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry's body of {length} bytes is malformed at byte {position}")]
pub struct BodyError {
    /// Length of the body.
    pub length: usize,
    /// Where it stopped making sense.
    pub position: usize,
}

/// Puts commands into one body, in order. The bounds on count and bytes are the caller's.
pub fn encode(commands: &[Bytes]) -> Bytes {
    let bytes: usize = commands.iter().map(|command| command.len() + 4).sum();
    let mut body = BytesMut::with_capacity(4 + bytes);
    body.put_u32_le(u32::try_from(commands.len()).expect("at most limits::COMMANDS_MAX commands"));
    for command in commands {
        body.put_u32_le(u32::try_from(command.len()).expect("at most limits::COMMAND_BYTES_MAX bytes"));
        body.put_slice(command);
    }
    body.freeze()
}

/// The commands of a body with their slots, as slices of it.
pub fn decode(body: &Bytes) -> Result<Vec<(u32, Bytes)>, BodyError> {
    let error = |position| BodyError {
        length: body.len(),
        position,
    };
    let word = |position: usize| -> Result<usize, BodyError> {
        let bytes = body.get(position..position + 4).ok_or(error(position))?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    if body.len() > limits::PEER_MESSAGE_BYTES_MAX {
        return Err(error(0));
    }
    let count = word(0)?;
    let mut commands = Vec::with_capacity(count.min(limits::COMMANDS_MAX));
    let mut position = 4;
    for _ in 0..count {
        let length = word(position)?;
        let slot = position + 4;
        if body.len() - slot < length {
            return Err(error(position));
        }
        commands.push((
            u32::try_from(slot).map_err(|_| error(slot))?,
            body.slice(slot..slot + length),
        ));
        position = slot + length;
    }
    if position == body.len() {
        Ok(commands)
    } else {
        Err(error(position))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(commands: Vec<Vec<u8>>) {
            let commands: Vec<Bytes> = commands.into_iter().map(Bytes::from).collect();
            let body = encode(&commands);
            let decoded = decode(&body).expect("decodes");
            prop_assert_eq!(decoded.len(), commands.len());
            for ((slot, bytes), command) in decoded.iter().zip(&commands) {
                prop_assert_eq!(bytes, command);
                let slot = *slot as usize;
                prop_assert_eq!(&body.slice(slot..slot + command.len()), command);
            }
        }

        #[test]
        fn cut_or_arbitrary_bytes_are_refused(commands: Vec<Vec<u8>>, cut in 1usize..16, noise: Vec<u8>) {
            let body = encode(&commands.into_iter().map(Bytes::from).collect::<Vec<_>>());
            let cut = body.slice(..body.len().saturating_sub(cut));
            prop_assert!(decode(&cut).is_err());
            let _ = decode(&Bytes::from(noise));
        }
    }
}
