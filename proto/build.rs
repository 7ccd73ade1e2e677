//! Compiles the protobuf files without protoc: protox parses them, tonic-prost-build writes the Rust code.

use std::{error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = [
    "apache/rocketmq/v2/definition.proto",
    "apache/rocketmq/v2/service.proto",
    "apache/rocketmq/v2/admin.proto",
    "ledgermq/admin/v1/admin.proto",
    "ledgermq/registry/v1/registry.proto",
    "ledgermq/door/v1/door.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    let descriptors = compiler.open_files(FILES)?.file_descriptor_set();

    let mut exported = descriptors.clone();
    for file in &mut exported.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), exported.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
