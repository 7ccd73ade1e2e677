//! A monotonic clock that stands still for the thread that simulates.
//!
//! h2 remembers streams that were reset for a second of the machine's own time (`std::time::Instant`), and there is no
//! seam for that: what it forgets changes the order of what follows, and a run that takes longer than a second is not the
//! same twice. So this program, and no library, has a `clock_gettime` of its own. It answers the same monotonic time for
//! ever on a thread that asked for it, and what the kernel says everywhere else: RocksDB's threads, wall clocks, the
//! parent process with its watchdog.

#![allow(
    unsafe_code,
    reason = "the C library's symbol is defined here, and the kernel is asked by number"
)]

use std::cell::Cell;

thread_local! {
    /// Plain and without a destructor: it can be read at any moment of a thread's life.
    static STOPPED: Cell<bool> = const { Cell::new(false) };
}

/// Any time after the boot of the machine; what is subtracted from it must not fall below zero.
const STANDS_AT_SECONDS: libc::time_t = 1_000_000;

/// From here on the monotonic clock of this thread stands still.
pub fn stop_on_this_thread() {
    STOPPED.set(true);
}

/// What the C library has under this name; see the module.
///
/// # Safety
/// As for the C library's: `time` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    if clock == libc::CLOCK_MONOTONIC && STOPPED.get() && !time.is_null() {
        let stopped = libc::timespec {
            tv_sec: STANDS_AT_SECONDS,
            tv_nsec: 0,
        };
        // SAFETY: not null, and the caller promises that it may be written.
        unsafe { time.write(stopped) };
        return 0;
    }
    // SAFETY: the kernel checks both arguments; the result is 0, or -1 with errno set, as the C library's is.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if result == 0 { 0 } else { -1 }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the clock and the thread are what is tested")]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::stop_on_this_thread;

    #[test]
    fn the_clock_stands_still_on_this_thread_alone() {
        let running = Instant::now();
        let stopped = thread::spawn(|| {
            stop_on_this_thread();
            let before = Instant::now();
            // Real time passes for the kernel, whatever this thread is told.
            thread::sleep(Duration::from_millis(2));
            Instant::now() - before
        });
        assert_eq!(stopped.join().expect("ends"), Duration::ZERO);
        assert!(Instant::now() > running);
    }
}
