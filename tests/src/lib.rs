//! Outer tests: programs that the commands under this folder run. The commands are listed in README.md.

pub mod held_disk;
pub mod told_disk;
