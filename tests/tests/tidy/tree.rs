//! The work tree as the rules see it: every text file, Rust sources with comments and strings blanked.

use crate::lexer;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target", "__pycache__", ".venv", "node_modules"];

/// One file.
pub struct File {
    /// From the top of the work tree, with `/`.
    pub path: String,
    /// As it is on the disk.
    pub text: String,
    /// Rust only: the text with comments and literals blanked, lines kept.
    pub code: String,
    /// The same without items under `#[cfg(test)]`.
    pub production: String,
}

impl File {
    /// A file with its derived texts.
    pub fn new(path: &str, text: &str) -> File {
        let code = if path.ends_with(".rs") {
            lexer::blank(text)
        } else {
            String::new()
        };
        let production = lexer::without_tests(&code);
        File {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            production,
        }
    }

    /// A Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Rust that is compiled for tests or benchmarks only, by its place.
    pub fn is_test_file(&self) -> bool {
        let inside = |folder: &str| self.path.contains(&format!("/{folder}/"));
        self.path.ends_with("/tests.rs") || inside("tests") || inside("benches") || self.path.starts_with("tests/")
    }

    /// The line number (from 1) of a byte position.
    pub fn line_of(&self, position: usize) -> usize {
        self.code[..position].matches('\n').count() + 1
    }
}

/// All files.
pub struct Tree {
    /// Sorted by path.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the work tree that this test runs in.
    pub fn load() -> Tree {
        // Tests run in the folder of their package; the one that they were built in may be another checkout, with which
        // this one shares its target directory.
        let top = Path::new("..");
        let mut files = Vec::new();
        read_folder(top, top, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(
            files.iter().any(|file| file.path == "Cargo.toml"),
            "the work tree has no Cargo.toml"
        );
        Tree { files }
    }

    /// A made-up tree, for the rules' own tests.
    pub fn sample(files: &[(&str, &str)]) -> Tree {
        Tree {
            files: files.iter().map(|(path, text)| File::new(path, text)).collect(),
        }
    }

    /// All Rust sources.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The Rust sources under `<folder>/src/`.
    pub fn sources_of(&self, folder: &str) -> impl Iterator<Item = &File> {
        let prefix = format!("{folder}/src/");
        self.rust().filter(move |file| file.path.starts_with(&prefix))
    }
}

fn read_folder(top: &Path, folder: &Path, files: &mut Vec<File>) {
    let entries = std::fs::read_dir(folder).expect("a readable folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        if path.is_symlink() || SKIPPED_FOLDERS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            read_folder(top, &path, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let path = path.strip_prefix(top).expect("under the top");
            files.push(File::new(&path.to_string_lossy().replace('\\', "/"), &text));
        }
    }
}
