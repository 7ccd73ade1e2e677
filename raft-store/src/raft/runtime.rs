//! openraft's view of tokio, with randomness that a seed can own.
//!
//! Everything is delegated to tokio except the random number generator: inside [`seeded`] all draws come from a
//! stream derived from the seed, and tasks spawned by openraft inherit a stream of their own; outside, each draw is
//! seeded by the operating system. One type serves production and simulation.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::TryRng;

tokio::task_local! {
    /// State of the current task's stream of draws.
    static STREAM: Cell<u64>;
}

/// Runs `future` so that every draw openraft makes inside it, in tasks it spawns too, is a function of `seed`.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    STREAM.scope(Cell::new(seed), future)
}

/// A stream of draws: SplitMix64, one word of state.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Draws {
        Draws { state: seed }
    }

    /// The next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.draw() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.draw())
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for chunk in target.chunks_mut(8) {
            let word = self.draw().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

/// The next word of this task's stream, or of the operating system outside [`seeded`].
fn next_seed() -> u64 {
    let inherited = STREAM.try_with(|stream| {
        let mut draws = Draws::new(stream.get());
        let word = draws.draw();
        stream.set(draws.state);
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
