//! How the log is kept from growing for ever: the leader looks which finished segments are too old or too many, carries
//! over what outlives them, and proposes the cut.
//!
//! ```text
//!   finished segments │1│2│3│4│ newest          target = end of segment 2
//!   cut ─────────────▶ step ─▶ step ─▶ target   each step: carry over what lies below and came later, then Cut
//! ```
//!
//! Every replica then flushes its state soon ([`crate::timers::flush_state`]), and its log forgets by itself what the
//! durable state has let go of.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_raft_store::{Handle, LogIndex, LogSpan, body};
use tokio::time::{MissedTickBehavior, interval};

use crate::leader::{Leader, unexpected};
use crate::limits;
use crate::records::Records;
use crate::refusal::LeadError;
use crate::state::command::{Action, CarriedRecord, CarryOver, Command};
use crate::state::kv::KvError;
use crate::state::machine::StateMachine;
use crate::state::outcome::{CutError, Outcome};
use crate::state::plan::ToCarryOver;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Messages that are older are forgotten, milliseconds.
    pub age_ms: u64,
    /// Bytes of finished segments; 0 for no bound.
    pub bytes: u64,
}

/// Why nothing, or not all, was forgotten this time.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Lead(#[from] LeadError),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error("a record to carry over can't be read: {0}")]
    Record(String),
    #[error("the work broke off")]
    Stopped,
    #[error("records came into the way again and again")]
    InTheWay,
}

/// Keeps the log as `retention` says, while this replica leads; looks `every` so often.
pub async fn keep(leader: Arc<Leader>, retention: Retention, every: Duration) {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if !leader.role().serving {
            continue;
        }
        if let Err(error) = enforce(&leader, retention).await {
            tracing::warn!(%error, "old messages were not forgotten, it is tried again");
        }
    }
}

async fn enforce(leader: &Arc<Leader>, retention: Retention) -> Result<(), RetentionError> {
    let now_ms = leader.now_ms();
    let cut = leader.view.cut();
    let expired = move |handle: &Handle<StateMachine>, span: &LogSpan| {
        newest_stamp(handle, span).is_some_and(|stamp| stamp.saturating_add(retention.age_ms) < now_ms)
    };
    let look = blocking(leader, move |leader| {
        let spans = leader.handle.log_spans();
        target(&spans, cut, retention.bytes, |span| expired(&leader.handle, span))
    });
    let Some(target) = look.await? else {
        return Ok(());
    };
    let mut tries = 0;
    while leader.view.cut() < target {
        let step = leader.view.cut().plus(limits::CUT_ENTRIES).min(target);
        let upto = blocking(leader, move |leader| leader.view.cut_step(step, target)).await??;
        carry_over(leader, upto).await?;
        match leader.propose(leader.request_id(), Action::Cut { upto }).await? {
            Outcome::Cut(Ok(cut)) => {
                tries = 0;
                tracing::info!(upto = cut.get(), "old messages are forgotten");
            }
            // A message died since.
            Outcome::Cut(Err(CutError::InTheWay { .. })) if tries < limits::CUT_TRIES_MAX => tries += 1,
            Outcome::Cut(Err(CutError::InTheWay { .. })) => return Err(RetentionError::InTheWay),
            other => return Err(unexpected(&other).into()),
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    leader: &Arc<Leader>,
    work: impl FnOnce(&Leader) -> T + Send + 'static,
) -> Result<T, RetentionError> {
    let at = Arc::clone(leader);
    let done = leader.blocking.run(move || work(&at)).await;
    done.ok_or(RetentionError::Stopped)
}

/// The last entry to forget: of the oldest segments, as long as they are expired or together too many bytes.
fn target(spans: &[LogSpan], cut: LogIndex, bytes_max: u64, is_expired: impl Fn(&LogSpan) -> bool) -> Option<LogIndex> {
    let kept = spans.iter().filter(|span| span.last > cut);
    let mut bytes: u64 = kept.clone().map(|span| span.bytes).sum();
    let mut target = None;
    for span in kept {
        let too_many = bytes_max > 0 && bytes > bytes_max;
        if !too_many && !is_expired(span) {
            break;
        }
        bytes -= span.bytes;
        target = Some(span.last);
    }
    target
}

/// The time of the newest entry with a command in a segment.
fn newest_stamp(handle: &Handle<StateMachine>, span: &LogSpan) -> Option<u64> {
    let oldest = span.last.get().saturating_sub(limits::SEGMENT_STAMP_ENTRIES - 1);
    let looked_at = (span.first.get().max(oldest)..=span.last.get()).rev();
    looked_at.map(LogIndex).find_map(|index| stamp(handle, index))
}

fn stamp(handle: &Handle<StateMachine>, index: LogIndex) -> Option<u64> {
    let commands = body::decode(&handle.read(index).ok()?).ok()?;
    let (_, first) = commands.first()?;
    Some(Command::decode(first).ok()?.stamp_ms)
}

/// Stores again what lies in entries up to `upto` and came into its queue later.
async fn carry_over(leader: &Arc<Leader>, upto: LogIndex) -> Result<(), RetentionError> {
    loop {
        let records = blocking(leader, move |leader| {
            let lying = leader.view.to_carry_over(upto)?;
            read(leader, &lying)
        });
        let records = records.await??;
        if records.is_empty() {
            return Ok(());
        }
        let count = records.len();
        let action = Action::CarryOver(CarryOver { records });
        match leader.propose(leader.request_id(), action).await? {
            // None moved means that another leader was faster; the next look shows it.
            Outcome::CarriedOver { moved } => tracing::debug!(count, moved, "records carried over"),
            other => return Err(unexpected(&other).into()),
        }
    }
}

/// The first of these, as many as fit into one command.
fn read(leader: &Leader, lying: &[ToCarryOver]) -> Result<Vec<CarriedRecord>, RetentionError> {
    let mut records = Records::new(&leader.handle);
    let mut carried = Vec::new();
    let mut bytes = 0;
    for place in lying {
        bytes += place.location.length as usize;
        if !carried.is_empty() && bytes > limits::CARRY_BYTES {
            break;
        }
        let record = records.read(place.location);
        carried.push(CarriedRecord {
            topic: place.topic,
            queue_id: place.queue_id,
            offset: place.offset,
            from: place.location.index,
            record: record.map_err(|error| RetentionError::Record(error.to_string()))?,
        });
    }
    Ok(carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans() -> Vec<LogSpan> {
        let span = |n: u64| LogSpan {
            first: LogIndex(n * 10),
            last: LogIndex(n * 10 + 9),
            bytes: 100,
        };
        (0..5).map(span).collect()
    }

    fn cut(cut: u64, bytes_max: u64, expired: u64) -> Option<u64> {
        let is_expired = |span: &LogSpan| span.last.get() < expired;
        target(&spans(), LogIndex(cut), bytes_max, is_expired).map(LogIndex::get)
    }

    #[test]
    fn the_oldest_segments_go_by_age() {
        assert_eq!(cut(0, 0, 0), None);
        assert_eq!(cut(0, 0, 10), Some(9));
        assert_eq!(cut(0, 0, 30), Some(29));
        assert_eq!(cut(9, 0, 10), None, "they are cut already");
        assert_eq!(cut(14, 0, 30), Some(29));
    }

    #[test]
    fn the_oldest_segments_go_by_size() {
        assert_eq!(cut(0, 500, 0), None);
        assert_eq!(cut(0, 499, 0), Some(9));
        assert_eq!(cut(0, 100, 0), Some(39));
        assert_eq!(cut(29, 200, 0), None, "what is cut does not count");
        assert_eq!(cut(0, 300, 40), Some(39), "what is more counts");
        assert_eq!(target(&[], LogIndex(0), 1, |_| true), None);
    }
}
