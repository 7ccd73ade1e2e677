//! The examples find the bug that is planted in their application within a few seeds, and pass the same seeds without it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

const SEEDS: &str = "1..6";

/// An example beside this test: cargo builds them before it runs tests.
fn example(name: &str, arguments: &[&str]) -> Output {
    let mut path: PathBuf = std::env::current_exe().expect("this test");
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    Command::new(&path)
        .args(arguments)
        .output()
        .expect("the example starts")
}

fn finds_its_bug(name: &str, says: &str) {
    let right = example(name, &["--seeds", SEEDS, "--keep-going"]);
    let buggy = example(name, &["--seeds", SEEDS, "--", "buggy"]);
    let told = String::from_utf8_lossy(&buggy.stdout).into_owned();
    assert_eq!(
        right.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&right.stdout)
    );
    assert_eq!(buggy.status.code(), Some(1), "{told}");
    assert!(told.contains(says) && told.contains("-- buggy"), "{told}");
}

#[test]
fn the_order_service_without_an_outbox_loses_an_order() {
    finds_its_bug("order_service", "not so: every accepted order is billed");
}

#[test]
fn the_wallet_that_forgets_books_a_payment_twice() {
    finds_its_bug("idempotent_consumer", "was ever paid");
}

/// docs/simulation.md shows the example as it is, and what it says is true.
#[test]
fn the_shop_of_the_docs_sends_an_order_twice() {
    // Tests run in the folder of their package.
    let shop = fs::read_to_string("examples/shop.rs").expect("the example");
    let docs = fs::read_to_string("../docs/simulation.md").expect("the docs");
    let (_, code) = shop.split_once("\n\n").expect("an opening line");
    assert!(
        docs.contains(&format!("```rust\n{code}```")),
        "docs/simulation.md shows another shop.rs"
    );
    let found = example("shop", &["--seeds", "1..20"]);
    let told = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{told}");
    assert!(told.contains("is billed twice"), "{told}");
}
