//! Files of the commands: every error names the file that it is about.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Makes or empties a file.
pub fn create(file: &Path) -> io::Result<File> {
    File::create(file).map_err(|error| named(file, error))
}

/// Writes a whole file.
pub fn write(file: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    fs::write(file, bytes).map_err(|error| named(file, error))
}

/// Reads a whole file.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    fs::read(file).map_err(|error| named(file, error))
}

/// Makes a folder and those above it.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| named(folder, error))
}

/// Removes a file; one that is not there is as good.
pub fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(file, error)),
        _ => Ok(()),
    }
}

/// The error with its file in front.
pub fn named(file: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_file() {
        let absent = std::env::temp_dir().join("ledgermq-sim-no-such-folder/file");
        for failed in [create(&absent).err(), write(&absent, "x").err(), read(&absent).err()] {
            let error = failed.expect("the folder is not there");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("ledgermq-sim-no-such-folder"), "{error}");
        }
        remove(&absent).expect("it is not there");
    }
}
