//! All fuzz targets in one program, so that RocksDB is linked once: `LEDGERMQ_FUZZ_TARGET` chooses one.

#![no_main]

use std::cell::RefCell;
use std::sync::OnceLock;

use ledgermq_broker::fuzzing as broker;
use ledgermq_raft_store::fuzzing as raft_store;
use tokio::runtime::{Builder, Runtime};

type Target = fn(&[u8]);

/// Every target with its name; `run` reads the names from here.
#[rustfmt::skip]
const TARGETS: &[(&str, Target)] = &[
    ("log_formats", raft_store::log_formats),
    ("recovery", recovery),
    ("snapshot_spool", raft_store::snapshot_spool),
    ("raft_formats", raft_store::raft_formats),
    ("entry_body", raft_store::entry_body),
    ("identity_file", raft_store::identity_file),
    ("command", broker::command),
    ("record", broker::record),
    ("receipt_handle", broker::receipt_handle),
    ("stored_state", broker::stored_state),
    ("applied", broker::applied),
    ("export_part", broker::export_part),
];

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// The log waits for its timers: the clock is paused, so they pass at once.
fn recovery(bytes: &[u8]) {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            let mut builder = Builder::new_current_thread();
            builder.enable_time().start_paused(true).build().expect("a runtime")
        });
        runtime.block_on(raft_store::recovery(bytes));
    });
}

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("LEDGERMQ_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|target| target.0 == name);
        found
            .unwrap_or_else(|| panic!("LEDGERMQ_FUZZ_TARGET={name} is no target"))
            .1
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chosen()(bytes));
