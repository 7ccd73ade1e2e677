//! Who speaks to whom: every call between replicas names cluster, broker group, and both ends with their
//! incarnations, and a replica refuses what is not meant for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;

use crate::identity::{Identity, Keeper};
use crate::peer::standing::Standing;
use crate::peer::wire::Header;
use crate::raft::config::{KeptMembership, Node, entry_id};
use crate::release::Release;
use crate::types::EntryId;

/// What this replica shows, and what it knows of the others.
pub struct Passport {
    keeper: Arc<Keeper>,
    /// Whether this replica is still a member.
    pub standing: Standing,
    release: Release,
    known: Mutex<Known>,
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
        let refuse = |reason: String| {
            Err(Status::failed_precondition(format!(
                "replica {} of broker group {:?} refuses: {reason}",
                own.id, own.broker_group
            )))
        };
        if header.broker_group != own.broker_group {
            return refuse(format!("the call is for broker group {:?}", header.broker_group));
        }
        if header.to != own.id.get() {
            return refuse(format!("the call is for replica {}", header.to));
        }
        if header.to_incarnation != own.incarnation {
            return refuse(format!(
                "the call is for incarnation {:016x}, this folder is {:016x}; a wiped replica comes back under a new id",
                header.to_incarnation, own.incarnation
            ));
        }
        match &own.cluster_id {
            None => return refuse("this replica belongs to no cluster yet".to_owned()),
            Some(cluster_id) if *cluster_id != header.cluster_id => {
                return refuse(format!(
                    "it belongs to cluster {cluster_id}, the caller to {:?}",
                    header.cluster_id
                ));
            }
            Some(_) => {}
        }
        let known = self.known().members.get(&header.from).map(|node| node.incarnation);
        match known {
            Some(known) if known != header.from_incarnation => refuse(format!(
                "replica {} is known as incarnation {known:016x}, the caller is {:016x}",
                header.from, header.from_incarnation
            )),
            _ => Ok(header.from),
        }
    }
}
