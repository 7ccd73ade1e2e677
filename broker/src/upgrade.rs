//! How a broker group goes over to a newer release: once every member is known to support a higher format level than the
//! state is at, the leader proposes it.
//!
//! ```text
//!   each replica ── presence stream ──▶ the others: level that its release supports, version
//!   leader: every member connected, all support more? ──▶ RaiseFormatLevel ──▶ the state's level, on all replicas
//! ```
//!
//! A member that is away counts as one that supports nothing new: it may come back as an older release, which would
//! stop at the command. So a broker group with a lost member stays at its level until that is replaced or removed.

use std::sync::Arc;

use ledgermq_raft_store::MemberStatus;
use tokio::time::{MissedTickBehavior, interval};

use crate::leader::{Leader, unexpected};
use crate::limits;
use crate::refusal::LeadError;
use crate::state::command::Action;
use crate::state::level::FORMAT_LEVEL;
use crate::state::outcome::Outcome;

/// Raises the level whenever all members support more, while this replica leads.
pub async fn raise_format_level(leader: Arc<Leader>) {
    let mut beat = interval(limits::LEVEL_CHECK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if !leader.role().serving {
            continue;
        }
        if let Err(error) = raise(&leader).await {
            tracing::warn!(%error, "the format level was not raised, it is tried again");
        }
    }
}

/// Tells the log of this replica whenever the level of its state changes.
pub async fn tell_format_level(leader: Arc<Leader>) {
    let mut level = leader.view.format_level_watch();
    loop {
        let now = *level.borrow_and_update();
        tracing::info!(level = now, "format level of the state");
        if level.changed().await.is_err() {
            return;
        }
    }
}

async fn raise(leader: &Arc<Leader>) -> Result<(), LeadError> {
    if leader.view.format_level() >= FORMAT_LEVEL {
        return Ok(());
    }
    // Nobody joins between the look at the members and the command.
    let Some(_hold) = leader.handle.hold_membership() else {
        return Ok(());
    };
    let Some(to) = supported_by_all(&leader.handle.status().members) else {
        return Ok(());
    };
    if to <= leader.view.format_level() {
        return Ok(());
    }
    match leader
        .propose(leader.request_id(), Action::RaiseFormatLevel { to })
        .await?
    {
        Outcome::FormatLevel { .. } => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// The highest level that all members support; `None` while one is not connected, or there is none.
fn supported_by_all(members: &[MemberStatus]) -> Option<u32> {
    let levels = members
        .iter()
        .map(|member| member.release.as_ref().map(|release| release.level));
    levels.min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledgermq_raft_store::{Release, ReplicaId};

    fn members(levels: &[Option<u32>]) -> Vec<MemberStatus> {
        let member = |(id, level): (u64, &Option<u32>)| MemberStatus {
            id: ReplicaId(id),
            peer_address: String::new(),
            client_address: String::new(),
            voter: id < 3,
            last_index: None,
            heard_ms_ago: None,
            incarnation: 0,
            caught_up: false,
            release: level.map(|level| Release {
                level,
                version: String::new(),
            }),
            trouble: None,
        };
        (1..).zip(levels).map(member).collect()
    }

    #[test]
    fn the_member_that_supports_the_least_decides() {
        assert_eq!(supported_by_all(&[]), None);
        assert_eq!(supported_by_all(&members(&[Some(2), Some(3), Some(2)])), Some(2));
        assert_eq!(
            supported_by_all(&members(&[Some(2), Some(2), Some(2), Some(1)])),
            Some(1),
            "a learner counts"
        );
        assert_eq!(
            supported_by_all(&members(&[Some(2), None, Some(2)])),
            None,
            "one is away"
        );
    }
}
