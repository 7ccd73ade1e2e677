//! The paths that a source names: its `use` trees, flattened, and the paths in expressions, resolved through them.

use crate::lexer::is_word;
use std::collections::BTreeMap;

/// A path as its segments, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `["std", "time", "Instant"]`.
    pub segments: Vec<String>,
    /// Byte position in the code.
    pub position: usize,
}

impl Named {
    /// The path with `::`.
    pub fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// All paths of a piece of blanked code: imports and inline ones, these with their first segment resolved.
pub fn all(code: &str) -> Vec<Named> {
    let (imports, aliases, rest) = imports(code);
    let mut named = imports;
    for mut inline in inline(&rest) {
        if let Some(full) = aliases.get(&inline.segments[0]) {
            inline.segments.splice(0..1, full.iter().cloned());
        }
        named.push(inline);
    }
    named
}

/// The `use` items flattened, what each brings into scope, and the code without them.
fn imports(code: &str) -> (Vec<Named>, BTreeMap<String, Vec<String>>, String) {
    let mut named = Vec::new();
    let mut aliases = BTreeMap::new();
    let mut rest = code.to_owned();
    for start in words(code, "use") {
        let Some(length) = code[start..].find(';') else {
            continue;
        };
        let tree = &code[start + 3..start + length];
        // `use<'a>` in a return type is no import.
        if tree.trim_start().starts_with('<') {
            continue;
        }
        flatten(tree, &[], start, &mut named, &mut aliases);
        rest.replace_range(start..start + length, &" ".repeat(length));
    }
    (named, aliases, rest)
}

fn flatten(
    tree: &str,
    above: &[String],
    position: usize,
    named: &mut Vec<Named>,
    aliases: &mut BTreeMap<String, Vec<String>>,
) {
    for part in split_at_commas(tree) {
        let part = part.trim();
        let (path, group) = match part.split_once('{') {
            Some((path, group)) => (path, Some(group.trim_end().trim_end_matches('}'))),
            None => (part, None),
        };
        let (path, alias) = match path.split_once(" as ") {
            Some((path, alias)) => (path, Some(alias.trim().to_owned())),
            None => (path, None),
        };
        let mut segments = above.to_vec();
        let own = path
            .split("::")
            .map(str::trim)
            .filter(|segment| !segment.is_empty() && *segment != "self");
        segments.extend(own.map(str::to_owned));
        match group {
            Some(group) => flatten(group, &segments, position, named, aliases),
            None if segments.is_empty() => {}
            None => {
                let alias = alias.or_else(|| segments.last().cloned()).unwrap_or_default();
                aliases.insert(alias, segments.clone());
                named.push(Named { segments, position });
            }
        }
    }
}

/// Splits at commas that are not inside braces.
fn split_at_commas(tree: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, byte) in tree.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    parts
}

/// Every `a::b::c` and every lone word, outside of imports.
fn inline(code: &str) -> Vec<Named> {
    let bytes = code.as_bytes();
    let mut named = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let position = at;
        // A field or a method is no path.
        let after_dot = code[..position].trim_end().ends_with('.') && !code[..position].trim_end().ends_with("..");
        let mut segments = Vec::new();
        loop {
            let start = at;
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            segments.push(code[start..at].to_owned());
            let goes_on = bytes[at..].starts_with(b"::") && bytes.get(at + 2).is_some_and(|byte| is_word(*byte));
            if !goes_on {
                break;
            }
            at += 2;
        }
        if !after_dot {
            named.push(Named { segments, position });
        }
    }
    named
}

/// The positions of a whole word.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).is_none_or(|before| !is_word(bytes[before]));
        before && bytes.get(at + word.len()).is_none_or(|after| !is_word(*after))
    })
}

#[test]
fn use_trees_are_flattened_and_inline_paths_resolved() {
    let code =
        "use std::{time::{self, Duration as Span}, fs};\nuse a::*;\nfn f() { time::Instant::now(); x.fs; Span::MAX; }";
    let texts: Vec<String> = all(code).iter().map(Named::text).collect();
    for expected in [
        "std::time",
        "std::time::Duration",
        "std::fs",
        "a::*",
        "std::time::Instant::now",
        "std::time::Duration::MAX",
    ] {
        assert!(
            texts.iter().any(|text| text == expected),
            "{expected} is missing in {texts:?}"
        );
    }
    assert_eq!(
        texts.iter().filter(|text| *text == "std::fs").count(),
        1,
        "a field is no path: {texts:?}"
    );
}
