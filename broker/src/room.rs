//! Room on the disks: the own one, what the other replicas told of theirs, and what follows: a leader with a full disk
//! hands over to a replica with room, and sends are refused where no majority of the voters has room.
//!
//! ```text
//!   every replica: looks at its disk ──▶ its probe tells the leader
//!   leader:        majority with room? ──no──▶ sends answer TOO_MANY_REQUESTS
//!                  own disk full?     ──yes──▶ leadership goes to a voter with room
//! ```
//! A follower with a full disk stops nobody: it takes what it is given, until a write fails and it is lost like any other.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledgermq_proto::rocketmq::Code;
use ledgermq_raft_store::disk::Space;
use ledgermq_raft_store::{ReplicaId, Status};
use tokio::time::Instant;

use crate::limits;
use crate::refusal::Refusal;

/// One replica's disk, as it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Room on it.
    pub space: Space,
    /// It takes no new messages.
    pub full: bool,
}

/// A voter, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its number.
    pub id: ReplicaId,
    /// It is the one that decides.
    pub own: bool,
    /// Heard within an election timeout.
    pub heard: bool,
    /// Its disk takes no new messages.
    pub full: bool,
    /// It has what the leader has, but for what is on its way.
    pub caught_up: bool,
    /// The last entry known to be on it.
    pub last_index: u64,
}

/// What a leader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Takes sends.
    Take,
    /// Takes sends, and gives the leadership to this voter.
    HandOver(ReplicaId),
    /// Refuses sends: so many voters have room, so many are needed.
    Refuse {
        /// Voters that are heard and have room.
        with_room: usize,
        /// A majority.
        majority: usize,
    },
}

/// What a leader does, given all voters. One that is not heard helps nobody, whatever its disk; but where no majority is heard,
/// it is not the disks that matter: sends are held until one is back, as without any disk that is full.
pub fn decide(voters: &[Voter]) -> Decision {
    let majority = voters.len() / 2 + 1;
    let heard = voters.iter().filter(|voter| voter.heard).count();
    let with_room = voters.iter().filter(|voter| voter.heard && !voter.full).count();
    if heard >= majority && with_room < majority {
        return Decision::Refuse { with_room, majority };
    }
    if !voters.iter().any(|voter| voter.own && voter.full) {
        return Decision::Take;
    }
    let fit = voters
        .iter()
        .filter(|voter| !voter.own && voter.heard && !voter.full && voter.caught_up);
    match fit.max_by_key(|voter| (voter.last_index, Reverse(voter.id))) {
        Some(voter) => Decision::HandOver(voter.id),
        None => Decision::Take,
    }
}

/// What is known of the disks here.
pub struct Room {
    full_percent: u64,
    own: Mutex<Option<Told>>,
    others: Mutex<BTreeMap<ReplicaId, (Told, Instant)>>,
    refuses: AtomicBool,
    reason: Mutex<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// Nothing is known yet. From `full_percent` used a disk is full; from 100 on it never is.
    pub fn new(full_percent: u64) -> Self {
        Self {
            full_percent,
            own: Mutex::default(),
            others: Mutex::default(),
            refuses: AtomicBool::new(false),
            reason: Mutex::default(),
        }
    }

    /// From how much used on a disk is full, in percent.
    pub fn full_percent(&self) -> u64 {
        self.full_percent
    }

    /// The own disk, once it was looked at.
    pub fn own(&self) -> Option<Told> {
        *lock(&self.own)
    }

    /// Takes note of the own disk. A full one must win back a little before it is not full any more.
    pub fn looked(&self, space: Option<Space>) {
        let mut own = lock(&self.own);
        let was_full = own.is_some_and(|own| own.full);
        *own = space.map(|space| {
            let limit = match was_full {
                true => self.full_percent.saturating_sub(limits::DISK_WON_BACK_PERCENT),
                false => self.full_percent,
            };
            let full = self.full_percent < 100 && space.used_percent() >= limit;
            Told { space, full }
        });
    }

    /// Another replica told of its disk.
    pub fn told(&self, id: ReplicaId, told: Told) {
        let now = Instant::now();
        let mut others = lock(&self.others);
        others.retain(|_, (_, at)| now.duration_since(*at) < limits::DISK_TOLD_LIFE);
        if others.contains_key(&id) || others.len() < limits::DISKS_MAX {
            others.insert(id, (told, now));
        }
    }

    /// Decides for a leader of this status, and takes or refuses sends from now on accordingly.
    pub fn settle(&self, status: &Status, away_after_ms: u64) -> Decision {
        let voters = self.voters(status, away_after_ms);
        let decision = decide(&voters);
        self.set_reason(match decision {
            Decision::Take | Decision::HandOver(_) => None,
            Decision::Refuse { with_room, majority } => Some(format!(
                "no room: {with_room} of {} voters are heard and have room on their disks, {majority} must",
                voters.len()
            )),
        });
        decision
    }

    /// This replica leads no more: it refuses nothing.
    pub fn leads_not(&self) {
        self.set_reason(None);
    }

    /// The voters with their disks; one that told nothing lately, such as one of an older version, counts as having room.
    fn voters(&self, status: &Status, away_after_ms: u64) -> Vec<Voter> {
        let own = self.own();
        let others = lock(&self.others);
        let voters = status.members.iter().filter(|member| member.voter);
        voters
            .map(|member| {
                let is_own = member.id == status.id;
                let told = match is_own {
                    true => own,
                    false => others
                        .get(&member.id)
                        .filter(|(_, at)| at.elapsed() < limits::DISK_TOLD_LIFE)
                        .map(|(told, _)| *told),
                };
                Voter {
                    id: member.id,
                    own: is_own,
                    heard: is_own || member.heard_ms_ago.is_some_and(|ago| ago <= away_after_ms),
                    full: told.is_some_and(|told| told.full),
                    caught_up: member.caught_up,
                    last_index: member.last_index.map_or(0, |index| index.get()),
                }
            })
            .collect()
    }

    fn set_reason(&self, reason: Option<String>) {
        let refuses = reason.is_some();
        if let Some(reason) = reason {
            *lock(&self.reason) = reason;
        }
        if self.refuses.swap(refuses, Ordering::Relaxed) != refuses {
            match refuses {
                true => tracing::warn!(reason = *lock(&self.reason), "sends are refused"),
                false => tracing::info!("sends are taken again"),
            }
        }
    }

    /// Why sends are refused here, if they are.
    pub fn sends_refused(&self) -> Option<String> {
        let refuses = self.refuses.load(Ordering::Relaxed);
        refuses.then(|| lock(&self.reason).clone())
    }

    /// Refuses a send for want of room. The code makes clients wait before they try again.
    pub fn check_send(&self) -> Result<(), Refusal> {
        match self.sends_refused() {
            Some(reason) => Err(Refusal::new(Code::TooManyRequests, reason)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(id: u64, full: bool) -> Voter {
        Voter {
            id: ReplicaId(id),
            own: id == 1,
            heard: true,
            full,
            caught_up: true,
            last_index: 10 + id,
        }
    }

    fn away(id: u64) -> Voter {
        Voter {
            heard: false,
            ..voter(id, false)
        }
    }

    #[test]
    fn sends_need_room_on_a_majority_and_not_on_every_disk() {
        let refuse = |with_room, majority| Decision::Refuse { with_room, majority };
        let cases = [
            (vec![voter(1, false)], Decision::Take),
            (vec![voter(1, true)], refuse(0, 1)),
            (vec![voter(1, false), voter(2, false), voter(3, true)], Decision::Take),
            (vec![voter(1, false), voter(2, true), voter(3, true)], refuse(1, 2)),
            (vec![voter(1, false), away(2), voter(3, true)], refuse(1, 2)),
            (vec![voter(1, false), away(2), voter(3, false)], Decision::Take),
            (vec![voter(1, true), away(2), voter(3, false)], refuse(1, 2)),
            (vec![voter(1, true), voter(2, true), voter(3, true)], refuse(0, 2)),
            // No majority: not a matter of room.
            (vec![voter(1, false), away(2), away(3)], Decision::Take),
            (vec![voter(1, true), away(2), away(3)], Decision::Take),
            (vec![], Decision::Take),
        ];
        for (voters, expected) in cases {
            assert_eq!(decide(&voters), expected, "{voters:?}");
        }
    }

    #[test]
    fn a_full_leader_hands_over_to_the_longest_log_with_room() {
        let mut voters = vec![voter(1, true), voter(2, false), voter(3, false)];
        assert_eq!(decide(&voters), Decision::HandOver(ReplicaId(3)));
        voters[2].caught_up = false;
        assert_eq!(decide(&voters), Decision::HandOver(ReplicaId(2)));
        voters[1].caught_up = false;
        assert_eq!(decide(&voters), Decision::Take, "nobody can take over yet");
        let five = [
            voter(1, true),
            voter(2, true),
            voter(3, false),
            voter(4, false),
            voter(5, false),
        ];
        assert_eq!(decide(&five), Decision::HandOver(ReplicaId(5)));
    }

    #[test]
    fn a_full_disk_must_win_back_a_little() {
        let used = |percent: u64| {
            Some(Space {
                total_bytes: 1000,
                free_bytes: 1000 - percent * 10,
            })
        };
        let room = Room::new(90);
        let full = |room: &Room| room.own().expect("looked").full;
        for (percent, expected) in [
            (89, false),
            (90, true),
            (89, true),
            (88, false),
            (89, false),
            (95, true),
        ] {
            room.looked(used(percent));
            assert_eq!(full(&room), expected, "{percent}");
        }
        room.looked(None);
        assert_eq!(room.own(), None);
        let never = Room::new(100);
        never.looked(used(100));
        assert!(!full(&never));
    }

    #[test]
    fn a_refusal_says_why_and_makes_clients_wait() {
        let room = Room::new(90);
        room.check_send().expect("room");
        room.set_reason(Some("no room".to_owned()));
        let refusal = room.check_send().expect_err("refused");
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::TooManyRequests, "no room")
        );
        room.set_reason(None);
        room.check_send().expect("room again");
    }
}
