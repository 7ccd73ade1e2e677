//! The steps of a change, and what each is refused for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Raft, ServerState};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Asked, Change, Changed, Outcome, Progress};
use crate::bootstrap::Candidate;
use crate::errors::MembershipError;
use crate::introduction::{self, Rejection};
use crate::limits;
use crate::marks::mark;
use crate::peer::link::Links;
use crate::peer::passport::Passport;
use crate::peer::presence::Presence;
use crate::peer::wire::IdentifyReply;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, KeptMembership, Node};
use crate::raft::members;
use crate::types::ReplicaId;

/// Makes the changes.
pub struct Membership {
    /// The core of this replica.
    pub raft: Raft<Config, Adapter>,
    /// Connections.
    pub links: Arc<Links>,
    /// This replica.
    pub passport: Arc<Passport>,
    /// Who is heard.
    pub presence: Arc<Presence>,
    /// A replica silent for so long does not count as living.
    pub silence: Duration,
    /// The level of the state: who supports less is not let in.
    pub level: watch::Receiver<u32>,
}

impl Membership {
    /// Serves callers, one at a time, on the replica's own runtime: the connections made here stay in use. A change
    /// goes on when its caller goes away.
    pub async fn serve(self, mut asked: mpsc::Receiver<Asked>) {
        let mut look = tokio::time::interval(limits::JOINT_CHECK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                biased;
                asked = asked.recv() => asked,
                _ = look.tick() => {
                    self.finish().await;
                    continue;
                }
            };
            let Some(Asked { change, _turn, reply }) = asked else {
                return;
            };
            tracing::info!(?change, "the membership is to change");
            let outcome = self.make(change).await;
            match &outcome {
                Ok(Changed::Done(None)) => tracing::info!("the membership has changed"),
                Ok(Changed::Done(Some(warning))) => tracing::warn!(warning, "the membership has changed"),
                Ok(Changed::HandOver(to)) => tracing::info!(to = to.get(), "another replica must lead first"),
                Err(error) => tracing::info!(%error, "the membership has not changed"),
            }
            drop(_turn);
            let _caller_gone = reply.send(outcome);
        }
    }

    /// Ends a joint membership that a leader before left behind, or a change that took too long: it needs both majorities, and a
    /// replica that is to leave must not be missed. What fails is tried again.
    async fn finish(&self) {
        let membership = self.membership();
        let leads = self.raft.metrics().borrow_watched().state == ServerState::Leader;
        if !leads || membership.get_joint_config().len() == 1 || self.majority(&membership).is_err() {
            return;
        }
        match self.commit(ChangeMembers::AddVoterIds(voters(&membership))).await {
            Ok(()) => {
                mark("joint_finished");
                tracing::info!("a change of the membership that had broken off is finished");
            }
            Err(error) => tracing::debug!(%error, "the membership stays joint for now"),
        }
    }

    async fn make(&self, change: Change) -> Outcome {
        let done = |()| Changed::Done(None);
        match change {
            Change::Add(new) => self.add(&new).await.map(done),
            Change::Promote(id) => self.promote(id).await.map(done),
            Change::Remove { id, force } => self.remove(id, force).await,
            Change::Replace { old, new } => self.replace(old, &new).await,
            Change::SetAddress(member) => self.set_address(&member).await.map(done),
        }
    }

    fn own(&self) -> u64 {
        self.passport.identity().id.get()
    }

    fn membership(&self) -> Arc<KeptMembership> {
        members::now(&self.raft)
    }

    async fn add(&self, new: &Candidate) -> Result<(), MembershipError> {
        let (id, peer_address, client_address) = new;
        check(new)?;
        let membership = self.membership();
        if let Some(node) = membership.get_node(&id.get()) {
            self.is_the_same(*id, node).await?;
            return match (&node.peer_address, &node.client_address) == (peer_address, client_address) {
                true => Ok(()),
                false => Err(MembershipError::Member {
                    id: *id,
                    peer_address: node.peer_address.clone(),
                    client_address: node.client_address.clone(),
                }),
            };
        }
        let count = membership.nodes().count();
        if count >= limits::MEMBERS_MAX {
            let bound = limits::MEMBERS_MAX;
            return Err(MembershipError::TooMany { count, bound });
        }
        free_addresses(&membership, new)?;
        self.majority(&membership)?;
        let rejected = |rejection| rejected(*id, peer_address, rejection);
        let cluster_id = self.passport.identity().cluster_id.unwrap_or_default();
        let reply = self.identify(*id, peer_address).await?;
        introduction::free(&reply, Some(&cluster_id)).map_err(rejected)?;
        introduction::supports(&reply, *self.level.borrow()).map_err(rejected)?;
        let (links, passport) = (&self.links, &self.passport);
        introduction::adopt(links, passport, *id, reply.incarnation, peer_address, &cluster_id)
            .await
            .map_err(rejected)?;
        let node = Node {
            peer_address: peer_address.clone(),
            client_address: client_address.clone(),
            incarnation: reply.incarnation,
        };
        self.commit(ChangeMembers::AddNodes(BTreeMap::from([(id.get(), node)])))
            .await
    }

    async fn identify(&self, id: ReplicaId, address: &str) -> Result<IdentifyReply, MembershipError> {
        let reply = introduction::identify(&self.links, &self.passport, id, address).await;
        reply.map_err(|rejection| rejected(id, address, rejection))
    }

    /// Fails if a folder other than the member's answers at its address. A member that is away is the same.
    async fn is_the_same(&self, id: ReplicaId, node: &Node) -> Result<(), MembershipError> {
        match self.identify(id, &node.peer_address).await {
            Ok(reply) => same_folder(id, node, &node.peer_address, &reply),
            Err(_) => Ok(()),
        }
    }

    async fn promote(&self, id: ReplicaId) -> Result<(), MembershipError> {
        let membership = self.membership();
        if membership.get_node(&id.get()).is_none() {
            return Err(MembershipError::NotMember(id));
        }
        let joint = membership.get_joint_config().len() > 1;
        let voter = voters(&membership).contains(&id.get());
        if voter && !joint {
            return Ok(());
        }
        self.majority(&membership)?;
        if !voter {
            self.caught_up(id)?;
        }
        self.commit(ChangeMembers::AddVoterIds(BTreeSet::from([id.get()])))
            .await?;
        mark("learner_promoted");
        Ok(())
    }

    fn progress(&self, id: u64) -> Progress {
        let metrics = self.raft.metrics();
        super::progress(&metrics.borrow_watched(), &self.presence, self.silence, id)
    }

    fn caught_up(&self, id: ReplicaId) -> Result<(), MembershipError> {
        let progress = self.progress(id.get());
        if progress.caught_up {
            return Ok(());
        }
        Err(MembershipError::Behind {
            id,
            entries: progress.behind,
            heard_ms_ago: progress.heard_ms_ago,
        })
    }

    async fn remove(&self, id: ReplicaId, force: bool) -> Outcome {
        let membership = self.membership();
        if membership.get_node(&id.get()).is_none() {
            return Err(MembershipError::NotMember(id));
        }
        self.majority(&membership)?;
        let mut rest = voters(&membership);
        let (goal, gone) = (rest.remove(&id.get()), BTreeSet::from([id.get()]));
        if !goal && !membership.voter_ids().any(|voter| voter == id.get()) {
            return self
                .commit(ChangeMembers::RemoveNodes(gone))
                .await
                .map(|()| Changed::Done(None));
        }
        if rest.is_empty() {
            return Err(MembershipError::LastVoter(id));
        }
        let (heard, voters) = (self.heard(&rest), rest.len());
        let warning = match (heard > voters / 2, force) {
            (true, _) => None,
            (false, true) => Some(format!(
                "only {heard} of the {voters} remaining voters are heard: nothing can be written until a majority of \
                 them is back"
            )),
            (false, false) => return Err(MembershipError::WouldLoseMajority { id, heard, voters }),
        };
        if id.get() == self.own() {
            return self.successor(&rest).map(Changed::HandOver);
        }
        match self.commit(ChangeMembers::RemoveVoters(gone)).await {
            Ok(()) => Ok(Changed::Done(warning)),
            // Forced: it is in the log, and cannot be committed yet.
            Err(MembershipError::Unknown(_)) if warning.is_some() => Ok(Changed::Done(warning)),
            Err(error) => Err(error),
        }
    }

    async fn replace(&self, old: ReplicaId, new: &Candidate) -> Outcome {
        let id = new.0;
        if old == id {
            return Err(MembershipError::Invalid(format!(
                "replica {id} cannot replace itself: a wiped replica needs a new id"
            )));
        }
        let membership = self.membership();
        let (has_old, goal) = (membership.get_node(&old.get()).is_some(), voters(&membership));
        let settled = membership.get_joint_config().len() == 1;
        if !has_old && settled {
            // Done before, or never possible.
            return match goal.contains(&id.get()) {
                true => Ok(Changed::Done(None)),
                false => Err(MembershipError::NotMember(old)),
            };
        }
        self.add(new).await?;
        if !goal.contains(&id.get()) {
            let deadline = Instant::now() + limits::CATCH_UP_WAIT;
            while let Err(behind) = self.caught_up(id) {
                if Instant::now() >= deadline {
                    return Err(behind);
                }
                tokio::time::sleep(limits::CATCH_UP_CHECK).await;
            }
        }
        let membership = self.membership();
        self.majority(&membership)?;
        let mut rest = voters(&membership);
        let voted = rest.remove(&old.get());
        rest.insert(id.get());
        let (heard, voters) = (self.heard(&rest), rest.len());
        if heard <= voters / 2 {
            return Err(MembershipError::WouldLoseMajority { id: old, heard, voters });
        }
        if old.get() == self.own() {
            rest.remove(&id.get());
            return match self.successor(&rest) {
                Ok(to) => Ok(Changed::HandOver(to)),
                // The only voter: the new one becomes a second one first, and is handed the leadership when this is
                // asked again.
                Err(_) => match self.promote(id).await {
                    Ok(()) => self.successor(&BTreeSet::from([id.get()])).map(Changed::HandOver),
                    Err(error) => Err(error),
                },
            };
        }
        let gone = BTreeSet::from([old.get()]);
        // A learner is in no configuration, also while another change is half done.
        let votes = voted
            || membership
                .get_joint_config()
                .iter()
                .any(|voters| voters.contains(&old.get()));
        let leaves = match votes {
            true => ChangeMembers::RemoveVoters(gone),
            false => ChangeMembers::RemoveNodes(gone),
        };
        let comes = ChangeMembers::AddVoterIds(BTreeSet::from([id.get()]));
        self.commit(ChangeMembers::Batch(vec![comes, leaves]))
            .await
            .map(|()| Changed::Done(None))
    }

    async fn set_address(&self, member: &Candidate) -> Result<(), MembershipError> {
        let (id, peer_address, client_address) = member;
        check(member)?;
        let membership = self.membership();
        let Some(node) = membership.get_node(&id.get()) else {
            return Err(MembershipError::NotMember(*id));
        };
        let moved = Node {
            peer_address: peer_address.clone(),
            client_address: client_address.clone(),
            incarnation: node.incarnation,
        };
        if moved == *node {
            return Ok(());
        }
        free_addresses(&membership, member)?;
        self.majority(&membership)?;
        // Only the member's own folder: another at its address would vote in its name.
        let reply = self.identify(*id, peer_address).await?;
        same_folder(*id, node, peer_address, &reply)?;
        self.commit(ChangeMembers::SetNodes(BTreeMap::from([(id.get(), moved)])))
            .await
    }

    /// How many of these are heard, this replica included.
    fn heard(&self, ids: &BTreeSet<u64>) -> usize {
        let own = self.own();
        let lives = |id: u64| id == own || self.presence.heard_ago(id).is_some_and(|ago| ago <= self.silence);
        ids.iter().filter(|id| lives(**id)).count()
    }

    /// Fails unless a majority of the voters is heard, of both halves while the membership is joint.
    fn majority(&self, membership: &KeptMembership) -> Result<(), MembershipError> {
        for config in membership.get_joint_config() {
            let (heard, voters) = (self.heard(config), config.len());
            if heard <= voters / 2 {
                return Err(MembershipError::NoMajority { heard, voters });
            }
        }
        Ok(())
    }

    /// The voter to hand the leadership to: heard, and with the longest log.
    fn successor(&self, rest: &BTreeSet<u64>) -> Result<ReplicaId, MembershipError> {
        let living = rest.iter().filter(|id| self.heard(&BTreeSet::from([**id])) > 0);
        let best = living.min_by_key(|id| self.progress(**id).behind.unwrap_or(u64::MAX));
        best.map(|id| ReplicaId(*id)).ok_or(MembershipError::NoMajority {
            heard: 0,
            voters: rest.len(),
        })
    }

    async fn commit(&self, change: ChangeMembers<u64, Node>) -> Result<(), MembershipError> {
        let changing = self.raft.change_membership(change, false);
        let Ok(changed) = tokio::time::timeout(limits::CHANGE_WAIT, changing).await else {
            let waited = format!("not committed within {:?}", limits::CHANGE_WAIT);
            return Err(MembershipError::Unknown(waited));
        };
        match changed {
            Ok(_) => {
                mark("membership_changed");
                let members = self.membership();
                if members
                    .nodes()
                    .any(|(id, _)| *id != self.own() && self.heard(&BTreeSet::from([*id])) == 0)
                {
                    mark("membership_changed_while_member_away");
                }
                Ok(())
            }
            Err(RaftError::Fatal(fatal)) => Err(MembershipError::Stopped(fatal.to_string())),
            Err(RaftError::APIError(error)) => Err(refused(error)),
        }
    }
}

fn refused(error: ClientWriteError<Config>) -> MembershipError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => MembershipError::NotLeader {
            leader: forward.leader_id.map(ReplicaId),
        },
        ClientWriteError::LogEntryDiscarded(forward) => MembershipError::Unknown(forward.to_string()),
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))
        | ClientWriteError::PreconditionFailed(_) => MembershipError::UnderWay,
        ClientWriteError::ChangeMembershipError(error) => MembershipError::Failed(error.to_string()),
    }
}

fn rejected(id: ReplicaId, address: &str, rejection: Rejection) -> MembershipError {
    let address = address.to_owned();
    match rejection {
        Rejection::Refused(reason) => MembershipError::Refused { id, address, reason },
        Rejection::Unreachable(reason) => MembershipError::Unreachable { id, address, reason },
    }
}

fn same_folder(id: ReplicaId, node: &Node, address: &str, reply: &IdentifyReply) -> Result<(), MembershipError> {
    if reply.incarnation == node.incarnation {
        return Ok(());
    }
    Err(MembershipError::Wiped {
        id,
        address: address.to_owned(),
        known: node.incarnation,
        found: reply.incarnation,
    })
}

/// The voters that the membership has or, while it is joint, is on its way to.
fn voters(membership: &KeptMembership) -> BTreeSet<u64> {
    membership.get_joint_config().last().cloned().unwrap_or_default()
}

fn check((id, peer_address, client_address): &Candidate) -> Result<(), MembershipError> {
    if id.get() == 0 {
        return Err(MembershipError::Invalid(
            "replica id 0 is not allowed; replicas are numbered from 1".to_owned(),
        ));
    }
    for address in [peer_address, client_address] {
        introduction::check_address(*id, address).map_err(MembershipError::Invalid)?;
    }
    Ok(())
}

/// Fails if another member has one of these addresses: two replicas at one place would be one to everybody else.
fn free_addresses(membership: &KeptMembership, candidate: &Candidate) -> Result<(), MembershipError> {
    let (id, peer_address, client_address) = candidate;
    for (other, node) in membership.nodes().filter(|(other, _)| **other != id.get()) {
        for (taken, wanted) in [
            (&node.peer_address, peer_address),
            (&node.client_address, client_address),
        ] {
            if taken == wanted {
                return Err(MembershipError::Invalid(format!(
                    "the address {wanted:?} of replica {id} belongs to replica {other}"
                )));
            }
        }
    }
    Ok(())
}
