//! Who speaks to whom: every call between replicas names cluster, broker group, and both ends with their
//! incarnations, and a replica refuses what is not meant for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tonic::Status;

use crate::identity::{Identity, Keeper};
use crate::limits;
use crate::peer::standing::Standing;
use crate::peer::wire::Header;
use crate::raft::config::{KeptMembership, Node, entry_id};
use crate::release::Release;
use crate::status::{Mismatch, RefusedCall};
use crate::types::{EntryId, ReplicaId};

/// What this replica shows, and what it knows of the others.
pub struct Passport {
    keeper: Arc<Keeper>,
    /// Whether this replica is still a member.
    pub standing: Standing,
    release: Release,
    known: Mutex<Known>,
    /// The last refused call of each caller, by its number, and when that was.
    refused: Mutex<BTreeMap<u64, (Mismatch, String, Instant)>>,
}

/// The membership known here.
#[derive(Default)]
struct Known {
    /// The members in force, by replica id.
    members: BTreeMap<u64, Node>,
    /// The entry they are of.
    at: Option<EntryId>,
    /// The members committed last, and the entry they are of.
    committed: BTreeSet<u64>,
    committed_at: Option<EntryId>,
}

impl Passport {
    /// The passport of this folder's replica, which runs this release.
    pub fn new(keeper: Arc<Keeper>, release: Release) -> Passport {
        Passport {
            keeper,
            standing: Standing::new(),
            release,
            known: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica.
    pub fn identity(&self) -> Identity {
        self.keeper.identity()
    }

    /// The program that this replica runs.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The folder's identity file.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Takes note of the membership in force and of the one committed last.
    pub fn learn(&self, effective: &KeptMembership, committed: &KeptMembership) {
        let own = self.identity().id.get();
        {
            let mut known = self.known();
            known.members = effective.nodes().map(|(id, node)| (*id, node.clone())).collect();
            known.at = effective.log_id().as_ref().map(entry_id);
            known.committed = committed.nodes().map(|(id, _)| *id).collect();
            known.committed_at = committed.log_id().as_ref().map(entry_id);
        }
        let member = effective.get_node(&own).is_some();
        let settled = effective.log_id() == committed.log_id() && committed.log_id().is_some();
        self.standing.learn((member || settled).then_some(member));
    }

    /// Where the others reach a member now.
    pub fn peer_address(&self, id: u64) -> Option<String> {
        self.known().members.get(&id).map(|node| node.peer_address.clone())
    }

    /// The entry of the membership in force.
    pub fn membership_at(&self) -> Option<EntryId> {
        self.known().at
    }

    /// The entry of the committed membership, if that lacks this replica and so does the one in force: the caller is a
    /// stranger, or is not known here yet.
    pub fn lacks(&self, from: u64) -> Option<EntryId> {
        let known = self.known();
        let stranger = !known.members.contains_key(&from) && !known.committed.contains(&from);
        known.committed_at.filter(|_| stranger)
    }

    /// Refuses a stranger as a candidate, unless its log is as new as the membership that lacks it: then it may be a
    /// member that this replica does not know yet.
    pub fn check_candidate(&self, from: u64, last: Option<EntryId>) -> Result<(), Status> {
        match self.lacks(from) {
            Some(lacking) if last.is_none_or(|last| last < lacking) => Err(Status::failed_precondition(format!(
                "replica {from} is not a member of broker group {:?}",
                self.identity().broker_group
            ))),
            _ => Ok(()),
        }
    }

    /// The header of a call to `to`.
    pub fn header(&self, to: u64, node: &Node) -> Header {
        let identity = self.identity();
        Header {
            cluster_id: identity.cluster_id.unwrap_or_default(),
            broker_group: identity.broker_group,
            from: identity.id.get(),
            from_incarnation: identity.incarnation,
            to,
            to_incarnation: node.incarnation,
        }
    }

    /// Checks the header of a call to this replica, and answers who calls.
    pub fn check(&self, header: Option<Header>) -> Result<u64, Status> {
        let header = header.ok_or_else(|| Status::invalid_argument("the header is missing"))?;
        let own = self.identity();
        let Some((why, reason)) = self.mismatch(&own, &header) else {
            return Ok(header.from);
        };
        self.note_refused(header.from, why, &reason);
        Err(Status::failed_precondition(format!(
            "replica {} of broker group {:?} refuses: {reason}",
            own.id, own.broker_group
        )))
    }

    fn mismatch(&self, own: &Identity, header: &Header) -> Option<(Mismatch, String)> {
        if header.broker_group != own.broker_group {
            let reason = format!("the call is for broker group {:?}", header.broker_group);
            return Some((Mismatch::BrokerGroup, reason));
        }
        if header.to != own.id.get() {
            return Some((Mismatch::Replica, format!("the call is for replica {}", header.to)));
        }
        if header.to_incarnation != own.incarnation {
            let reason = format!(
                "the call is for incarnation {:016x}, this folder is {:016x}; a wiped replica comes back under a new id",
                header.to_incarnation, own.incarnation
            );
            return Some((Mismatch::Incarnation, reason));
        }
        match &own.cluster_id {
            None => return Some((Mismatch::NoCluster, "this replica belongs to no cluster yet".to_owned())),
            Some(cluster_id) if *cluster_id != header.cluster_id => {
                let reason = format!(
                    "it belongs to cluster {cluster_id}, the caller to {:?}",
                    header.cluster_id
                );
                return Some((Mismatch::Cluster, reason));
            }
            Some(_) => {}
        }
        let known = self.known().members.get(&header.from).map(|node| node.incarnation)?;
        (known != header.from_incarnation).then(|| {
            let reason = format!(
                "replica {} is known as incarnation {known:016x}, the caller is {:016x}",
                header.from, header.from_incarnation
            );
            (Mismatch::Caller, reason)
        })
    }

    fn note_refused(&self, from: u64, why: Mismatch, reason: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = refused.iter().min_by_key(|(_, (_, _, at))| *at).map(|(id, _)| *id);
        if let Some(oldest) = oldest
            && refused.len() >= limits::REFUSED_CALLERS_MAX
            && !refused.contains_key(&from)
        {
            refused.remove(&oldest);
        }
        let reason = reason.chars().take(limits::REASON_CHARS_MAX).collect();
        refused.insert(from, (why, reason, Instant::now()));
    }

    /// The calls refused lately, the last of each caller, by its number.
    pub fn refused(&self) -> Vec<RefusedCall> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = refused
            .iter()
            .map(|(from, (why, reason, at))| (from, why, reason, at.elapsed()));
        lately
            .filter(|(_, _, _, ago)| *ago <= limits::REFUSED_CALL_LIFE)
            .map(|(from, why, reason, ago)| RefusedCall {
                from: ReplicaId(*from),
                why: *why,
                reason: reason.clone(),
                ms_ago: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::disk::FaultyDisk;

    async fn passport() -> Passport {
        let own = Identity {
            id: ReplicaId(2),
            incarnation: 7,
            broker_group: "broker-a".to_owned(),
            cluster_id: Some("c".to_owned()),
        };
        let keeper = Keeper::open(Arc::new(FaultyDisk::new(1)), Path::new("/r"), own).await;
        let release = Release {
            level: 1,
            version: String::new(),
        };
        Passport::new(Arc::new(keeper.expect("opens")), release)
    }

    fn header(from: u64) -> Header {
        Header {
            cluster_id: "c".to_owned(),
            broker_group: "broker-a".to_owned(),
            from,
            from_incarnation: 1,
            to: 2,
            to_incarnation: 7,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_is_remembered_with_its_reason_for_a_while() {
        let passport = passport().await;
        assert_eq!(passport.check(Some(header(1))).expect("fits"), 1);
        assert!(passport.refused().is_empty());
        let wrong = [
            (
                Mismatch::BrokerGroup,
                Header {
                    broker_group: "b".to_owned(),
                    ..header(1)
                },
            ),
            (Mismatch::Replica, Header { to: 3, ..header(1) }),
            (
                Mismatch::Cluster,
                Header {
                    cluster_id: "d".to_owned(),
                    ..header(1)
                },
            ),
            (
                Mismatch::Incarnation,
                Header {
                    to_incarnation: 8,
                    ..header(1)
                },
            ),
        ];
        for (why, header) in wrong {
            assert_eq!(
                passport.check(Some(header)).expect_err("refused").code(),
                tonic::Code::FailedPrecondition
            );
            assert_eq!(passport.refused()[0].why, why);
        }
        assert!(passport.refused()[0].reason.contains("incarnation 0000000000000008"));
        tokio::time::advance(limits::REFUSED_CALL_LIFE + Duration::from_millis(1)).await;
        assert!(passport.refused().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn refused_callers_are_bounded_and_the_oldest_goes() {
        let passport = passport().await;
        for from in 1..=limits::REFUSED_CALLERS_MAX as u64 + 1 {
            let wrong = Header { to: 3, ..header(from) };
            passport.check(Some(wrong)).expect_err("refused");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let refused = passport.refused();
        assert_eq!(refused.len(), limits::REFUSED_CALLERS_MAX);
        assert_eq!(refused[0].from, ReplicaId(2));
    }
}
