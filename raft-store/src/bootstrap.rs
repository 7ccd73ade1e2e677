//! The birth of a broker group: explicit, once, from one of its replicas.
//!
//! ```text
//! identify every member (who are you, are you free?) ─▶ this replica adopts a new cluster id ─▶ the others adopt it
//!                                                     ─▶ the first membership becomes entry 0 here, and an election
//! ```
//!
//! A bootstrap that broke off in the middle may be called again with the same members: it goes on with the cluster id
//! this replica adopted then.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::Raft;
use openraft::errors::{InitializeError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::errors::BootstrapError;
use crate::introduction::{self, Rejection};
use crate::limits;
use crate::peer::link::Links;
use crate::peer::passport::Passport;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Config, Node};
use crate::types::ReplicaId;

/// A member to be: number, peer address, client address.
pub type Candidate = (ReplicaId, String, String);

/// A bootstrap asked for, and where its outcome goes.
pub type Asked = (Vec<Candidate>, oneshot::Sender<Result<String, BootstrapError>>);

/// Everything a bootstrap needs.
#[derive(Clone)]
pub struct Bootstrap {
    /// The core of this replica.
    pub raft: Raft<Config, Adapter>,
    /// Connections.
    pub links: Arc<Links>,
    /// This replica.
    pub passport: Arc<Passport>,
    /// What a new cluster id is made of.
    pub draw: u128,
}

impl Bootstrap {
    /// Serves callers, one at a time, on the replica's own runtime: the connections made here stay in use.
    pub async fn serve(self, mut asked: mpsc::Receiver<Asked>) {
        while let Some((members, reply)) = asked.recv().await {
            // A caller that went away learns from the status what came of it.
            let _ = reply.send(self.clone().run(members).await);
        }
    }

    /// Makes `members` a broker group and answers the cluster's id.
    async fn run(self, members: Vec<Candidate>) -> Result<String, BootstrapError> {
        let own = self.passport.identity();
        check(&members, own.id)?;
        if self
            .raft
            .is_initialized()
            .await
            .map_err(|fatal| BootstrapError::Failed(fatal.to_string()))?
        {
            return Err(BootstrapError::AlreadyBootstrapped);
        }
        let mut nodes = BTreeMap::new();
        for (id, peer_address, client_address) in members {
            let incarnation = match id == own.id {
                true => own.incarnation,
                false => self.identify(id, &peer_address, own.cluster_id.as_deref()).await?,
            };
            nodes.insert(
                id.get(),
                Node {
                    peer_address,
                    client_address,
                    incarnation,
                },
            );
        }
        let cluster_id = own.cluster_id.unwrap_or_else(|| format!("{:032x}", self.draw));
        match self.passport.keeper().adopt(&cluster_id).await {
            Ok(Ok(())) => {}
            Ok(Err(other)) => return Err(BootstrapError::Failed(other.to_string())),
            Err(error) => return Err(BootstrapError::Failed(error.to_string())),
        }
        for (id, node) in nodes.iter().filter(|(id, _)| **id != own.id.get()) {
            self.adopt(ReplicaId(*id), node, &cluster_id).await?;
        }
        match self.raft.initialize(nodes).await {
            Ok(()) => Ok(cluster_id),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Err(BootstrapError::AlreadyBootstrapped),
            Err(error) => Err(BootstrapError::Failed(error.to_string())),
        }
    }

    /// Asks a member who it is, and answers its incarnation.
    async fn identify(&self, id: ReplicaId, address: &str, expected: Option<&str>) -> Result<u64, BootstrapError> {
        let reply = introduction::identify(&self.links, &self.passport, id, address).await;
        let reply = reply.map_err(|rejection| rejected(id, address, rejection))?;
        introduction::free(&reply, expected).map_err(|rejection| rejected(id, address, rejection))?;
        Ok(reply.incarnation)
    }

    async fn adopt(&self, id: ReplicaId, node: &Node, cluster_id: &str) -> Result<(), BootstrapError> {
        let address = &node.peer_address;
        let adopted = introduction::adopt(&self.links, &self.passport, id, node.incarnation, address, cluster_id).await;
        adopted.map_err(|rejection| rejected(id, address, rejection))
    }
}

fn rejected(id: ReplicaId, address: &str, rejection: Rejection) -> BootstrapError {
    let address = address.to_owned();
    match rejection {
        Rejection::Refused(reason) => BootstrapError::Refused { id, address, reason },
        Rejection::Unreachable(reason) => BootstrapError::Unreachable { id, address, reason },
    }
}

fn check(members: &[Candidate], own: ReplicaId) -> Result<(), BootstrapError> {
    let bad = |reason: String| Err(BootstrapError::BadMembers(reason));
    if members.len() > limits::MEMBERS_MAX {
        return bad(format!("{} members, at most {}", members.len(), limits::MEMBERS_MAX));
    }
    if !members.iter().any(|(id, ..)| *id == own) {
        return bad(format!("replica {own} is not among them"));
    }
    for (place, (id, peer_address, client_address)) in members.iter().enumerate() {
        if id.get() == 0 {
            return bad("replica id 0".to_owned());
        }
        if members[..place].iter().any(|(other, ..)| other == id) {
            return bad(format!("replica {id} twice"));
        }
        for address in [peer_address, client_address] {
            introduction::check_address(*id, address).map_err(BootstrapError::BadMembers)?;
        }
    }
    Ok(())
}
