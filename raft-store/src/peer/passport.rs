//! Who speaks to whom: every call between replicas names cluster, broker group, and both ends with their
//! incarnations, and a replica refuses what is not meant for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

use crate::identity::{Identity, Keeper};
use crate::peer::wire::Header;
use crate::raft::config::Node;

/// What this replica shows, and what it knows of the others.
pub struct Passport {
    keeper: Arc<Keeper>,
    /// Incarnations of the members, by replica id.
    members: Mutex<BTreeMap<u64, u64>>,
}

impl Passport {
    /// The passport of this folder's replica.
    pub fn new(keeper: Arc<Keeper>) -> Passport {
        Passport {
            keeper,
            members: Mutex::new(BTreeMap::new()),
        }
    }

    /// This replica.
    pub fn identity(&self) -> Identity {
        self.keeper.identity()
    }

    /// The folder's identity file.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Takes note of the membership in force.
    pub fn learn<'a>(&self, members: impl Iterator<Item = (&'a u64, &'a Node)>) {
        let members = members.map(|(id, node)| (*id, node.incarnation)).collect();
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
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
        let known = self
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&header.from)
            .copied();
        match known {
            Some(known) if known != header.from_incarnation => refuse(format!(
                "replica {} is known as incarnation {known:016x}, the caller is {:016x}",
                header.from, header.from_incarnation
            )),
            _ => Ok(header.from),
        }
    }
}
