//! Client properties in Settings (grpc.md B.0).

use std::collections::BTreeMap;

use ledgermq_proto::rocketmq::Code;

use crate::refusal::Refusal;

const PAIRS_MAX: usize = 32;
const KEY_CHARS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 256;
const BYTES_MAX: usize = 4096;

/// Checks the properties that a client tells of itself.
pub fn client(properties: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Code::InvalidClientProperties, message));
    let count = properties.len();
    if count > PAIRS_MAX {
        return refuse(format!("{count} client properties, at most {PAIRS_MAX} are allowed"));
    }
    let mut bytes = 0;
    for (key, value) in properties {
        bytes += key.len() + value.len();
        let mut letters = key.bytes();
        let starts = letters.next().is_some_and(|first| first.is_ascii_alphabetic());
        let goes_on = letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if !starts || !goes_on || key.len() > KEY_CHARS_MAX {
            return refuse(format!(
                "the client property {key:?} must have 1 to {KEY_CHARS_MAX} of a-z A-Z 0-9 _ . -"
            ));
        }
        if key.starts_with("rocketmq.") {
            return refuse(format!("the client property {key} belongs to the system"));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return refuse(format!("the value of {key} has more than {VALUE_CHARS_MAX} characters"));
        }
    }
    if bytes > BYTES_MAX {
        return refuse(format!(
            "client properties have {bytes} bytes, at most {BYTES_MAX} are allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(pairs: &[(&str, &str)]) -> Option<Code> {
        let properties = pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        client(&properties).err().map(|refusal| refusal.code)
    }

    #[test]
    fn client_properties() {
        assert_eq!(code(&[("a.b-c_1", ""), (&"k".repeat(64), &"v".repeat(256))]), None);
        for (key, value) in [("", "v"), ("1k", "v"), ("k k", "v"), ("rocketmq.x", "v")] {
            assert_eq!(code(&[(key, value)]), Some(Code::InvalidClientProperties), "{key}");
        }
        assert_eq!(code(&[(&"k".repeat(65), "v")]), Some(Code::InvalidClientProperties));
        assert_eq!(code(&[("k", &"v".repeat(257))]), Some(Code::InvalidClientProperties));
        let many: Vec<String> = (0..33).map(|i| format!("k{i}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(code(&many), Some(Code::InvalidClientProperties));
    }
}
