//! openraft's view of tokio, with randomness that a seed can own.
//!
//! Everything is delegated to tokio except the random number generator: inside [`seeded`] all draws come from a
//! stream derived from the seed, and tasks spawned by openraft inherit a stream of their own; outside, each draw is
//! seeded by the operating system. One type serves production and simulation.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::TryRng;

use crate::draws::Draws;

tokio::task_local! {
    /// State of the current task's stream of draws.
    static STREAM: Cell<u64>;
}

/// Runs `future` so that every draw openraft makes inside it, in tasks it spawns too, is a function of `seed`.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    STREAM.scope(Cell::new(seed), future)
}

/// The next word of this task's stream, or of the operating system outside [`seeded`].
fn next_seed() -> u64 {
    let inherited = STREAM.try_with(|stream| {
        let mut draws = Draws::new(stream.get());
        let word = draws.draw();
        stream.set(draws.place());
        word
    });
    inherited.unwrap_or_else(|_| {
        rand::rngs::SysRng
            .try_next_u64()
            .expect("the operating system has random numbers")
    })
}

/// Tokio, as openraft wants to see it.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Draws;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        if STREAM.try_with(|_| ()).is_ok() {
            TokioRuntime::spawn(STREAM.scope(Cell::new(next_seed()), future))
        } else {
            TokioRuntime::spawn(future)
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Draws::new(next_seed())
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        openraft_rt::testing::Suite::<Runtime>::test_all();
    }

    async fn draws() -> Vec<u64> {
        let mut seen = vec![next_seed()];
        let child = Runtime::spawn(async { next_seed() });
        seen.push(child.await.expect("the task ends"));
        seen.push(next_seed());
        seen
    }

    #[tokio::test(flavor = "current_thread")]
    async fn same_seed_same_draws() {
        let first = seeded(7, draws()).await;
        let second = seeded(7, draws()).await;
        let other = seeded(8, draws()).await;
        assert_eq!(first, second);
        assert_ne!(first, other);
        assert_ne!(draws().await, draws().await);
    }
}
