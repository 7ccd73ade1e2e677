//! Just enough of Rust's lexical rules to tell code from comments, strings and tests.

/// The text with comments, strings and characters blanked by spaces; line breaks and byte positions are kept.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment(bytes, at);
        if end > at {
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else {
            at += 1;
            // The rest of a word is never the start of a raw string (`for"…"` does not occur).
            while at < bytes.len() && is_word(bytes[at - 1]) && is_word(bytes[at]) {
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// A byte of an identifier.
pub fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The end of the comment or literal that starts at `at`; `at` itself when none does.
fn literal_or_comment(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return end_of_block_comment(bytes, at);
    }
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let next = &rest[prefix.len().min(rest.len())..];
        rest.starts_with(prefix.as_bytes())
            && (next.starts_with(b"\"") || (prefix.ends_with('r') && raw_hashes(next).is_some()))
    });
    match prefix {
        Some(prefix) if prefix.ends_with('r') => {
            let start = at + prefix.len();
            let hashes = raw_hashes(&bytes[start..]).unwrap_or(0);
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let body = start + hashes + 1;
            find(bytes, body, &close).map_or(bytes.len(), |found| found + close.len())
        }
        Some(prefix) => end_of_string(bytes, at + prefix.len() + 1),
        None if rest.starts_with(b"'") => end_of_character(bytes, at),
        None => at,
    }
}

/// `#…#"`: how many hashes open a raw string.
fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    (rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A character literal's end; a lifetime is none and ends where it starts.
fn end_of_character(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start + 1..];
    if rest.first() == Some(&b'\\') {
        return rest
            .iter()
            .skip(2)
            .position(|byte| *byte == b'\'')
            .map_or(start, |found| start + found + 4);
    }
    let width = rest.iter().skip(1).take_while(|byte| **byte & 0xC0 == 0x80).count() + 1;
    if rest.get(width) == Some(&b'\'') {
        start + 1 + width + 1
    } else {
        start
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let from = from.min(bytes.len());
    bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .map(|found| from + found)
}

/// Blanked code without the items under `#[cfg(test)]`: they are blanked as well.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut text = code.to_owned();
    while let Some(start) = text.find(MARK) {
        let item = start + MARK.len();
        let end = match text[item..].find(['{', ';']) {
            Some(found) if text.as_bytes()[item + found] == b'{' => end_of_braces(&text, item + found),
            Some(found) => item + found + 1,
            None => text.len(),
        };
        let blanked: String = text[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        text.replace_range(start..end, &blanked);
    }
    text
}

/// The position after the brace that closes the one at `open`.
pub fn end_of_braces(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_strings_and_characters_are_blanked() {
    let text = "a /* x /* y */ z */ b // c\n\"d\\\"e\" f r#\"g\"h\"# 'i' '\\'' &'life j b\"k\"";
    let code = blank(text);
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "b", "f", "&'life", "j"]);
    assert_eq!(code.len(), text.len());
}

#[test]
fn test_items_are_blanked() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}";
    let left = without_tests(code);
    assert!(left.contains("fn a") && left.contains("fn c") && left.contains("fn d"));
    assert!(!left.contains("fn b") && !left.contains("more"));
}
