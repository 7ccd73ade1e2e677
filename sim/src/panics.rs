//! What panicked first, in words. A panic inside of a simulated host reaches the harness as a panic of its runtime, which
//! says nothing of the cause; so the words are noted when they are said.

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, PanicHookInfo},
    sync::Once,
};

thread_local! {
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Forgets what panicked on this thread, and notes the next. What panics is still printed, as before.
pub fn listen() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
    FIRST.set(None);
}

fn note(info: &PanicHookInfo<'_>) {
    // The name of the file alone: the rest of its path belongs to one machine.
    let place = info.location().map_or_else(String::new, |location| {
        let file = location.file().rsplit(['/', '\\']).next().unwrap_or_default();
        format!(" ({file}:{})", location.line())
    });
    let words = format!("{}{place}", text(info.payload()));
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert(words);
    });
}

/// What panicked first on this thread since [`listen`], and where.
pub fn first() -> Option<String> {
    FIRST.with_borrow(Clone::clone)
}

/// The words of a panic.
pub fn text(panic: &dyn Any) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_is_noted_with_its_place() {
        listen();
        assert_eq!(first(), None);
        let _ = panic::catch_unwind(|| panic!("first {}", 1));
        let _ = panic::catch_unwind(|| panic!("second"));
        let noted = first().expect("noted");
        assert!(noted.starts_with("first 1 (panics.rs:"), "{noted}");
    }
}
