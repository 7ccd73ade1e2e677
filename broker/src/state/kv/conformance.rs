//! What every store must do. `open` closes the store by a crash, if it is open, and opens it again.

use super::{Batch, Change, Family, Kv, KvView, for_each_pair};

/// Runs all checks. The store must be empty at first.
pub fn suite(open: &mut dyn FnMut() -> Box<dyn Kv>) {
    order_and_bounds(open);
    batches_and_ranges(open);
    crashes(open);
    pages(open);
    views(open);
}

fn put(kv: &dyn Kv, family: Family, pairs: &[(&[u8], &[u8])]) {
    let changes = pairs
        .iter()
        .map(|(key, value)| Change::Put(family, key.to_vec(), value.to_vec()))
        .collect();
    kv.write(Batch { changes }).expect("write");
}

fn keys(kv: &dyn KvView, family: Family, from: &[u8], to: &[u8], limit: usize) -> Vec<Vec<u8>> {
    kv.scan(family, from, to, limit)
        .expect("scan")
        .into_iter()
        .map(|(key, _)| key)
        .collect()
}

fn order_and_bounds(open: &mut dyn FnMut() -> Box<dyn Kv>) {
    let kv = open();
    put(
        &*kv,
        Family::Runs,
        &[(b"b", b"2"), (b"a", b"1"), (b"c", b"3"), (b"\xff\xff", b"4")],
    );
    put(&*kv, Family::Topics, &[(b"zz", b"other")]);
    assert_eq!(kv.get(Family::Runs, b"b").expect("get"), Some(b"2".to_vec()));
    assert_eq!(kv.get(Family::Runs, b"zz").expect("get"), None);
    assert_eq!(
        keys(&*kv, Family::Runs, b"", b"", 10),
        [&b"a"[..], b"b", b"c", b"\xff\xff"]
    );
    assert_eq!(keys(&*kv, Family::Runs, b"b", b"c", 10), [b"b"]);
    assert_eq!(keys(&*kv, Family::Runs, b"a", b"", 2), [b"a", b"b"]);
    assert!(keys(&*kv, Family::Runs, b"c", b"a", 10).is_empty());
    let last = |from: &[u8], upto: &[u8]| kv.last(Family::Runs, from, upto).expect("last").map(|(key, _)| key);
    assert_eq!(last(b"a", b"bzz"), Some(b"b".to_vec()));
    assert_eq!(last(b"a", b"c"), Some(b"c".to_vec()));
    assert_eq!(last(b"d", b"e"), None);
    assert_eq!(last(b"e", b"d"), None);
}

fn batches_and_ranges(open: &mut dyn FnMut() -> Box<dyn Kv>) {
    let kv = open();
    let put = |key: &[u8]| Change::Put(Family::Spans, key.to_vec(), b"v".to_vec());
    kv.write(Batch {
        changes: vec![
            put(b"1"),
            put(b"2"),
            put(b"3"),
            Change::DeleteRange(Family::Spans, b"1".to_vec(), b"3".to_vec()),
            put(b"2"),
            Change::Delete(Family::Spans, b"9".to_vec()),
        ],
    })
    .expect("write");
    assert_eq!(keys(&*kv, Family::Spans, b"", b"", 10), [b"2", b"3"]);
}

fn crashes(open: &mut dyn FnMut() -> Box<dyn Kv>) {
    let kv = open();
    assert!(keys(&*kv, Family::Runs, b"", b"", 10).is_empty(), "nothing was flushed");
    put(&*kv, Family::Meta, &[(b"applied", b"1")]);
    put(&*kv, Family::Runs, &[(b"a", b"1"), (b"b", b"1")]);
    kv.flush().expect("flush");
    put(&*kv, Family::Meta, &[(b"applied", b"2")]);
    put(&*kv, Family::Runs, &[(b"a", b"2"), (b"c", b"2")]);
    kv.write(Batch {
        changes: vec![Change::Delete(Family::Runs, b"b".to_vec())],
    })
    .expect("write");
    drop(kv);
    let kv = open();
    assert_eq!(kv.get(Family::Meta, b"applied").expect("get"), Some(b"1".to_vec()));
    assert_eq!(kv.get(Family::Runs, b"a").expect("get"), Some(b"1".to_vec()));
    assert_eq!(keys(&*kv, Family::Runs, b"", b"", 10), [b"a", b"b"]);
    kv.write(Batch {
        changes: vec![Change::DeleteRange(Family::Runs, b"a".to_vec(), b"z".to_vec())],
    })
    .expect("write");
    kv.flush().expect("flush");
    drop(kv);
    let kv = open();
    assert!(keys(&*kv, Family::Runs, b"", b"", 10).is_empty());
}

fn pages(open: &mut dyn FnMut() -> Box<dyn Kv>) {
    let kv = open();
    let changes = (0..3000u32).map(|n| Change::Put(Family::Progress, n.to_be_bytes().to_vec(), Vec::new()));
    kv.write(Batch {
        changes: changes.collect(),
    })
    .expect("write");
    let mut seen = Vec::new();
    for_each_pair(&*kv, Family::Progress, |key, _| {
        seen.push(key.to_vec());
        Ok::<(), super::KvError>(())
    })
    .expect("scan");
    assert_eq!(seen, (0..3000u32).map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

fn views(open: &mut dyn FnMut() -> Box<dyn Kv>) {
    let kv = open();
    put(&*kv, Family::Runs, &[(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]);
    let view = kv.view().expect("view");
    put(&*kv, Family::Runs, &[(b"a", b"2"), (b"d", b"2")]);
    kv.write(Batch {
        changes: vec![Change::DeleteRange(Family::Runs, b"b".to_vec(), b"c".to_vec())],
    })
    .expect("write");
    let later = kv.view().expect("view");
    kv.flush().expect("flush");
    put(&*kv, Family::Runs, &[(b"e", b"3")]);
    assert_eq!(keys(&*view, Family::Runs, b"", b"", 10), [b"a", b"b", b"c"]);
    assert_eq!(view.get(Family::Runs, b"a").expect("get"), Some(b"1".to_vec()));
    assert_eq!(view.get(Family::Runs, b"d").expect("get"), None);
    assert_eq!(keys(&*later, Family::Runs, b"", b"", 10), [b"a", b"c", b"d"]);
    assert_eq!(keys(&*later, Family::Runs, b"b", b"d", 10), [b"c"]);
    assert_eq!(later.get(Family::Runs, b"a").expect("get"), Some(b"2".to_vec()));
    let last = later.last(Family::Runs, b"a", b"z").expect("last");
    assert_eq!(last, Some((b"d".to_vec(), b"2".to_vec())));
    assert_eq!(keys(&*kv, Family::Runs, b"", b"", 10), [b"a", b"c", b"d", b"e"]);
    // A view outlives the handle that it came from.
    drop(kv);
    assert_eq!(keys(&*view, Family::Runs, b"", b"", 10), [b"a", b"b", b"c"]);
    drop((view, later));
    assert_eq!(keys(&*open(), Family::Runs, b"", b"", 10), [b"a", b"c", b"d"]);
}
