//! The compiled descriptors and the protocol's table say the same, row by row and both ways.
//!
//! The table (tests/grpc-wire.tsv) has the columns file, kind, owner, number, name, type, label, oneof.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const TABLE: &str = include_str!("grpc-wire.tsv");
const PACKAGE: &str = "apache.rocketmq.v2";

#[test]
fn descriptors_match_the_table() {
    let expected: BTreeSet<String> = TABLE.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(expected.len(), TABLE.lines().count() - 1, "the table has no row twice");
    assert!(expected.len() > 500, "the table is complete");

    let compiled = compiled_rows();
    let missing: Vec<&String> = expected.difference(&compiled).collect();
    let unknown: Vec<&String> = compiled.difference(&expected).collect();
    assert!(missing.is_empty(), "in the table, not compiled: {missing:#?}");
    assert!(unknown.is_empty(), "compiled, not in the table: {unknown:#?}");
}

#[test]
fn exported_descriptors_hold_every_package() {
    let packages: BTreeSet<String> = descriptors()
        .file
        .iter()
        .map(|file| file.package().to_owned())
        .collect();
    for package in [
        PACKAGE,
        "ledgermq.admin.v1",
        "ledgermq.registry.v1",
        "ledgermq.door.v1",
        "google.protobuf",
    ] {
        assert!(packages.contains(package), "{package} is missing in {packages:?}");
    }
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(ledgermq_proto::FILE_DESCRIPTOR_SET).expect("the exported descriptors decode")
}

fn compiled_rows() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for file in descriptors().file.iter().filter(|file| file.package() == PACKAGE) {
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
        add_file(&mut rows, file);
    }
    rows
}

fn add_file(rows: &mut BTreeSet<String>, file: &FileDescriptorProto) {
    let name = file.name().rsplit('/').next().unwrap_or_default();
    for message in &file.message_type {
        add_message(rows, name, "", message);
    }
    for enumeration in &file.enum_type {
        add_enum(rows, name, "", enumeration);
    }
    for service in &file.service {
        for method in &service.method {
            let streams = match (method.client_streaming(), method.server_streaming()) {
                (false, false) => "unary",
                (false, true) => "server-stream",
                (true, false) => "client-stream",
                (true, true) => "bidi-stream",
            };
            let types = format!("{} -> {}", local(method.input_type()), local(method.output_type()));
            rows.insert(row([
                name,
                "method",
                service.name(),
                "-",
                method.name(),
                &types,
                streams,
                "-",
            ]));
        }
    }
}

fn add_message(rows: &mut BTreeSet<String>, file: &str, outer: &str, message: &DescriptorProto) {
    let owner = format!("{outer}{}", message.name());
    for field in &message.field {
        rows.insert(field_row(file, &owner, message, field));
    }
    if message.field.is_empty() {
        rows.insert(row([file, "message_empty", &owner, "-", "-", "-", "-", "-"]));
    }
    let inside = format!("{owner}.");
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        add_message(rows, file, &inside, nested);
    }
    for enumeration in &message.enum_type {
        add_enum(rows, file, &inside, enumeration);
    }
}

fn field_row(file: &str, owner: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message
        .nested_type
        .iter()
        .find(|nested| is_map_entry(nested) && field.type_name() == format!(".{PACKAGE}.{owner}.{}", nested.name()));
    let (kind, label) = if let Some(entry) = entry {
        assert_eq!(field.label(), Label::Repeated);
        assert_eq!(entry.field.len(), 2);
        (
            format!("map<{},{}>", type_of(&entry.field[0]), type_of(&entry.field[1])),
            "map",
        )
    } else if field.label() == Label::Repeated {
        (type_of(field), "repeated")
    } else if field.proto3_optional() {
        (type_of(field), "optional")
    } else if field.oneof_index.is_some() {
        (type_of(field), "oneof")
    } else {
        (type_of(field), "singular")
    };
    let oneof = match field.oneof_index.filter(|_| label == "oneof") {
        Some(index) => message.oneof_decl[usize::try_from(index).expect("an index is not negative")].name(),
        None => "-",
    };
    row([
        file,
        "field",
        owner,
        &field.number().to_string(),
        field.name(),
        &kind,
        label,
        oneof,
    ])
}

fn add_enum(rows: &mut BTreeSet<String>, file: &str, outer: &str, enumeration: &EnumDescriptorProto) {
    let owner = format!("{outer}{}", enumeration.name());
    for value in &enumeration.value {
        rows.insert(row([
            file,
            "enum_value",
            &owner,
            &value.number().to_string(),
            value.name(),
            "-",
            "-",
            "-",
        ]));
    }
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => local(field.type_name()),
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Float => "float".to_owned(),
        Type::Double => "double".to_owned(),
        other => panic!("a type that the protocol does not use: {other:?}"),
    }
}

fn local(full_name: &str) -> String {
    full_name
        .trim_start_matches('.')
        .trim_start_matches(&format!("{PACKAGE}."))
        .to_owned()
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn row(columns: [&str; 8]) -> String {
    columns.join("\t")
}
