//! The operator of a broker group: bootstraps it, and brings its membership to what is wanted, one step at a time, as a
//! person with the command line would: looks, does the next thing, looks again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ledgermq_client::Admin;
use ledgermq_proto::{
    admin::{
        AddReplicaRequest, BootstrapRequest, BrokerGroup, CreateTopicRequest, DeleteTopicRequest,
        DescribeClusterRequest, Member, PromoteReplicaRequest, RemoveReplicaRequest, ReplaceReplicaRequest, Replica,
        TransferLeaderRequest,
    },
    net::Net,
};
use tonic::{Code, Status};

use super::replica::{CLIENT_PORT, PEER_PORT};
use crate::{
    board::{Board, replica_name},
    fleet::{Fleet, Order},
    net::SimNet,
    trace::Trace,
};

const LOOK_EVERY: Duration = Duration::from_millis(400);

/// What an operator host needs.
#[derive(Clone)]
pub struct Operator {
    /// Which broker group, from 0.
    pub group: usize,
    /// Its name.
    pub broker_group: String,
    /// Where its replicas take calls.
    pub endpoints: Vec<String>,
    /// What is wanted.
    pub fleet: Fleet,
    /// Where changes are counted.
    pub board: Board,
    /// The trace.
    pub trace: Trace,
}

/// The operator host.
pub async fn host(operator: Operator) -> turmoil::Result {
    let net: Arc<dyn Net> = Arc::new(SimNet);
    let mut endpoints = operator.endpoints.clone();
    let mut admin = Admin::new(&net, &endpoints);
    operator.bootstrap(&admin).await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(status) = operator.round(&admin).await {
            operator.event(format!("not now: {}", status.message()));
            // The first replica that answers has the word, and an empty one knows nothing: another is asked next.
            endpoints.rotate_left(1);
            admin = Admin::new(&net, &endpoints);
        }
    }
}

fn member(machine: usize, id: u64) -> Member {
    let name = replica_name(machine);
    Member {
        id,
        peer_address: format!("{name}:{PEER_PORT}"),
        client_address: format!("{name}:{CLIENT_PORT}"),
    }
}

/// A membership as the leader tells it, seen from the machines.
struct Look {
    members: Vec<Replica>,
    /// The members are those of before and of after a change that is half done.
    joint: bool,
    /// Members that no machine has any more, or that are to leave.
    lost: Vec<Replica>,
    /// Replicas that are no members: machine and number.
    newcomers: Vec<(usize, u64)>,
    /// Machines whose address the membership knows.
    busy: BTreeSet<usize>,
}

impl Operator {
    fn event(&self, what: impl std::fmt::Display) {
        self.trace.event(&format!("operator-{}", self.group + 1), what);
    }

    fn tell(&self, what: impl std::fmt::Display) {
        self.trace.tell(&format!("operator-{}", self.group + 1), what);
    }

    /// Bootstraps the broker group; a failure is tried again.
    async fn bootstrap(&self, admin: &Admin) {
        let seats = self.fleet.seats(self.group);
        let request = BootstrapRequest {
            broker_group: self.broker_group.clone(),
            members: seats.iter().map(|(id, machine)| member(*machine, *id)).collect(),
        };
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            match admin.bootstrap(request.clone()).await {
                Ok(answer) => return self.tell(format!("bootstrapped cluster {}", answer.cluster_id)),
                Err(status) if matches!(status.code(), Code::AlreadyExists | Code::FailedPrecondition) => {
                    return self.event(format!("bootstrapped before: {}", status.message()));
                }
                Err(status) => self.event(format!("bootstrap: {}", status.message())),
            }
        }
    }

    async fn round(&self, admin: &Admin) -> Result<(), Status> {
        if let Some(order) = self.fleet.next_order(self.group) {
            let obeyed = self.obey(admin, &order).await;
            if obeyed.as_ref().is_err_and(|status| status.code() == Code::Unavailable) {
                self.fleet.order_first(self.group, order);
            }
            return obeyed;
        }
        if self.fleet.is_settled(self.group) {
            return Ok(());
        }
        let answer = admin.describe_cluster(DescribeClusterRequest {}).await?;
        let groups = answer.broker_groups.into_iter();
        let told = groups.into_iter().find(|group| group.name == self.broker_group);
        let told = told.filter(|group| group.leader.is_some());
        let told = told.ok_or_else(|| Status::unavailable("nobody leads"))?;
        let members: Vec<u64> = told.replicas.iter().map(|replica| replica.id).collect();
        let Some(parted) = self.fleet.note_members(self.group, told.term, &members) else {
            return Err(Status::unavailable("the answer is of an old leader"));
        };
        for id in parted {
            self.event(format!("replica {id} has left before"));
            self.part(id);
        }
        self.step(admin, self.look(told)).await
    }

    async fn obey(&self, admin: &Admin, order: &Order) -> Result<(), Status> {
        self.event(format!("{order:?}"));
        match order {
            Order::Transfer(machine) => {
                let Some(seat) = self.fleet.seat(*machine) else {
                    return Ok(());
                };
                let request = TransferLeaderRequest {
                    broker_group: self.broker_group.clone(),
                    to: seat.id,
                };
                let answer = admin.transfer_leader(request).await?;
                self.board.mark("transfer_done");
                self.event(format!("handed over in term {}", answer.term));
            }
            Order::CreateTopic(name) => {
                let request = CreateTopicRequest {
                    name: name.clone(),
                    r#type: "normal".to_owned(),
                    queues: 4,
                };
                admin.create_topic(request).await?;
                self.board.mark("topic_created");
            }
            Order::DeleteTopic(name) => {
                admin.delete_topic(DeleteTopicRequest { name: name.clone() }).await?;
                self.board.mark("topic_deleted");
            }
        }
        Ok(())
    }

    fn look(&self, told: BrokerGroup) -> Look {
        let seats = self.fleet.seats(self.group);
        let is_lost =
            |replica: &&Replica| !seats.contains_key(&replica.id) || self.fleet.is_leaving(self.group, replica.id);
        let is_member = |id: u64| told.replicas.iter().any(|replica| replica.id == id);
        let machine_at =
            |address: &str| (0..self.fleet.len()).find(|machine| member(*machine, 0).client_address == address);
        Look {
            lost: told.replicas.iter().filter(is_lost).cloned().collect(),
            newcomers: seats
                .iter()
                .filter(|(id, _)| !is_member(**id))
                .map(|(id, machine)| (*machine, *id))
                .collect(),
            busy: told
                .replicas
                .iter()
                .filter_map(|replica| machine_at(&replica.address))
                .collect(),
            joint: told.membership_joint,
            members: told.replicas,
        }
    }

    /// The next thing to do.
    async fn step(&self, admin: &Admin, look: Look) -> Result<(), Status> {
        let wanted = self.fleet.wanted(self.group);
        let voters = look.members.iter().filter(|replica| replica.voter).count();
        if let Some(lost) = look.lost.first() {
            return self.part_with(admin, &look, lost).await;
        }
        if let Some(learner) = look.members.iter().find(|replica| !replica.voter) {
            if voters >= wanted {
                return self.remove(admin, learner.id).await;
            }
            self.event(format!("promote replica {}", learner.id));
            let request = PromoteReplicaRequest {
                broker_group: self.broker_group.clone(),
                id: learner.id,
            };
            admin.promote_replica(request).await?;
            return Ok(());
        }
        if voters < wanted {
            if let Some((machine, id)) = self.newcomer(&look) {
                self.event(format!("add replica {id} on {}", replica_name(machine)));
                let request = AddReplicaRequest {
                    broker_group: self.broker_group.clone(),
                    replica: Some(member(machine, id)),
                };
                let added = admin.add_replica(request).await;
                self.obey_advice(machine, added)?;
                self.board.mark("replica_added");
            }
            return Ok(());
        }
        if voters > wanted {
            // The newest but one: not always the last one that came.
            let oldest = look.members.iter().rev().nth(1).unwrap_or(&look.members[0]);
            return self.remove(admin, oldest.id).await;
        }
        if let Some((machine, id)) = look.newcomers.first() {
            self.event(format!("replica {id} on {} is not needed", replica_name(*machine)));
            self.fleet.retire(*machine);
            return Ok(());
        }
        if look.joint {
            return Err(Status::unavailable("a change of the membership is half done"));
        }
        self.event(format!("{voters} voters, as wanted"));
        self.fleet.set_settled(self.group, true);
        Ok(())
    }

    /// A replica that is no member yet, on a machine whose address is free.
    fn newcomer(&self, look: &Look) -> Option<(usize, u64)> {
        let free = look.newcomers.iter().find(|(machine, _)| !look.busy.contains(machine));
        free.copied().or_else(|| self.fleet.take_seat(self.group, &look.busy))
    }

    /// A member that no machine has any more is replaced, or taken out where nothing can take its place.
    async fn part_with(&self, admin: &Admin, look: &Look, lost: &Replica) -> Result<(), Status> {
        if !lost.voter {
            return self.remove(admin, lost.id).await;
        }
        let Some((machine, id)) = self.learner(look).or_else(|| self.newcomer(look)) else {
            return self.remove(admin, lost.id).await;
        };
        self.event(format!(
            "replace replica {} by {id} on {}",
            lost.id,
            replica_name(machine)
        ));
        let request = ReplaceReplicaRequest {
            broker_group: self.broker_group.clone(),
            old: lost.id,
            replica: Some(member(machine, id)),
        };
        let replaced = admin.replace_replica(request).await;
        self.obey_advice(machine, replaced)?;
        self.board.mark("replica_replaced");
        self.part(lost.id);
        self.tell(format!("replica {} is replaced by {id}", lost.id));
        Ok(())
    }

    /// A learner that a replacement made before it broke off.
    fn learner(&self, look: &Look) -> Option<(usize, u64)> {
        let seats = self.fleet.seats(self.group);
        let learners = look.members.iter().filter(|replica| !replica.voter);
        let mut seated = learners.filter_map(|replica| seats.get(&replica.id).map(|machine| (*machine, replica.id)));
        seated.find(|(_, id)| !self.fleet.is_leaving(self.group, *id))
    }

    async fn remove(&self, admin: &Admin, id: u64) -> Result<(), Status> {
        self.event(format!("remove replica {id}"));
        let request = RemoveReplicaRequest {
            broker_group: self.broker_group.clone(),
            id,
            force: false,
        };
        admin.remove_replica(request).await?;
        self.board.mark("replica_removed");
        self.part(id);
        self.tell(format!("replica {id} is removed"));
        Ok(())
    }

    /// A replica may have been introduced by a leader whose entry of it was taken back: it is no member, and has a log. The
    /// product says then to begin again with an empty folder and a new id.
    fn obey_advice<T>(&self, machine: usize, answer: Result<T, Status>) -> Result<T, Status> {
        if let Err(refused) = &answer
            && refused.message().contains("give it an empty folder")
        {
            self.event(format!("{} begins again", replica_name(machine)));
            self.fleet.retire(machine);
        }
        answer
    }

    /// A replica that left: its machine is free.
    fn part(&self, id: u64) {
        if let Some(machine) = self.fleet.seats(self.group).get(&id) {
            self.fleet.retire(*machine);
        }
    }
}
