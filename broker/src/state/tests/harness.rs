//! One replica without its log: entries go straight to the machine, and are kept for replays.

use crate::state::command::{
    Ack, Action, CarriedRecord, CarryOver, ChangeVisibility, Command, CreateConsumerGroup, CreateTopic, Lease,
    NewMessage, PlannedRange, Send,
};
use crate::state::effects::NoEffects;
use crate::state::handle::ReceiptHandle;
use crate::state::identity::RequestId;
use crate::state::kv::Kv;
use crate::state::machine::{Settings, StateMachine};
use crate::state::outcome::{CutError, Granted, Leased, Outcome, SendResult};
use crate::state::plan::{Filter, Plan, PlanRequest, RecordLocation, Reserved, ToCarryOver};
use crate::state::record::Record;
use crate::state::record::tests::record;
use crate::state::topic::{ConsumeFrom, TopicKind};
use crate::state::view::View;
use bytes::Bytes;
use ledgermq_raft_store::{Applied, EntryId, LogIndex, Machine};
use std::sync::Arc;

pub const BROKER_GROUP: &str = "broker-a";

/// One replica.
pub struct Node {
    pub kv: Arc<dyn Kv>,
    pub machine: StateMachine,
    pub view: View,
    pub settings: Settings,
    /// Commands of each entry; entry 0 is blank.
    pub log: Vec<Vec<Bytes>>,
    pub now_ms: u64,
    requests: u64,
}

/// A receive: what was planned and what was granted.
pub struct Received {
    pub plan: Plan,
    pub leased: Leased,
}

impl Node {
    pub fn new(kv: Arc<dyn Kv>) -> Node {
        Node::with(kv, Settings::default())
    }

    pub fn with(kv: Arc<dyn Kv>, settings: Settings) -> Node {
        let (machine, view) =
            StateMachine::open(kv.clone(), BROKER_GROUP, settings, Arc::new(NoEffects)).expect("open");
        let mut node = Node {
            kv,
            machine,
            view,
            settings,
            log: Vec::new(),
            now_ms: 1_000_000,
            requests: 0,
        };
        node.machine.apply_blank(EntryId::new(1, 0)).expect("blank");
        node.log.push(Vec::new());
        node
    }

    /// Opens the store again and applies what it misses.
    pub fn reopen(&mut self, kv: Arc<dyn Kv>) {
        let (machine, view) =
            StateMachine::open(kv.clone(), BROKER_GROUP, self.settings, Arc::new(NoEffects)).expect("open");
        (self.kv, self.machine, self.view) = (kv, machine, view);
        let next = self.machine.applied().map_or(0, |applied| applied.id.index.0 + 1);
        for index in next..self.log.len() as u64 {
            self.apply(index);
        }
    }

    fn apply(&mut self, index: u64) -> Vec<Outcome> {
        let id = EntryId::new(1, index);
        let commands = &self.log[index as usize];
        if commands.is_empty() {
            self.machine.apply_blank(id).expect("blank");
            return Vec::new();
        }
        let mut at = 4u32;
        let mut slotted = Vec::new();
        for command in commands {
            slotted.push((at + 4, command.clone()));
            at += 4 + command.len() as u32;
        }
        self.machine.apply(id, &slotted).expect("apply")
    }

    /// A record, as the log would read it.
    pub fn read(&self, location: RecordLocation) -> Record {
        Record::decode(self.read_bytes(location)).expect("a record is there")
    }

    /// The bytes of a record, as the log would read them.
    pub fn read_bytes(&self, location: RecordLocation) -> Bytes {
        let cut = self.view.cut();
        assert!(
            cut == LogIndex(0) || location.index > cut,
            "nothing below the cut is read"
        );
        let commands = &self.log[location.index.0 as usize];
        let mut body = vec![0; 4];
        for command in commands {
            body.extend_from_slice(&(command.len() as u32).to_le_bytes());
            body.extend_from_slice(command);
        }
        let at = location.slot as usize;
        Bytes::from(body).slice(at..at + location.length as usize)
    }

    /// The newest entry.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.log.len() as u64 - 1)
    }

    pub fn cut(&mut self, upto: LogIndex) -> Result<LogIndex, CutError> {
        match self.act(Action::Cut { upto }) {
            Outcome::Cut(result) => result,
            outcome => panic!("{outcome:?}"),
        }
    }

    /// What stores again all that a cut would leave behind.
    pub fn carry_over(&mut self, upto: LogIndex) -> Option<Command> {
        let records = self.view.to_carry_over(upto).expect("read");
        let carried = |record: &ToCarryOver| CarriedRecord {
            topic: record.topic,
            queue_id: record.queue_id,
            offset: record.offset,
            from: record.location.index,
            record: self.read_bytes(record.location),
        };
        let records: Vec<CarriedRecord> = records.iter().map(carried).collect();
        (!records.is_empty()).then(|| self.command(Action::CarryOver(CarryOver { records })))
    }

    /// Goes on with the state of another replica: an export in parts of this size, labelled with an earlier entry.
    pub fn install_into(&mut self, kv: Arc<dyn Kv>, part_bytes: usize, label: LogIndex) {
        let applied = self.machine.applied().expect("applied");
        let export = self.machine.view().expect("view");
        let (mut other, _) =
            StateMachine::open(kv.clone(), BROKER_GROUP, self.settings, Arc::new(NoEffects)).expect("open");
        other.install_begin().expect("begin");
        let mut from = Some(Bytes::new());
        while let Some(place) = from {
            let part = export.read(&place, part_bytes).expect("part");
            other.install_part(part.bytes).expect("part");
            from = part.next;
        }
        let label = Applied {
            id: EntryId::new(1, label.get()),
            ..applied
        };
        other.install_finish(label).expect("finish");
        drop(other);
        self.reopen(kv);
    }

    pub fn request_id(&mut self) -> RequestId {
        self.requests += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.requests.to_le_bytes());
        RequestId(id)
    }

    pub fn command(&mut self, action: Action) -> Command {
        Command {
            stamp_ms: self.now_ms,
            request_id: self.request_id(),
            action,
        }
    }

    /// One entry of these commands.
    pub fn entry(&mut self, commands: &[Command]) -> Vec<Outcome> {
        self.log.push(commands.iter().map(Command::encode).collect());
        self.apply(self.log.len() as u64 - 1)
    }

    pub fn propose(&mut self, command: &Command) -> Outcome {
        self.entry(std::slice::from_ref(command)).remove(0)
    }

    pub fn act(&mut self, action: Action) -> Outcome {
        let command = self.command(action);
        self.propose(&command)
    }

    pub fn topic(&mut self, name: &str, queues: u32) {
        let create = CreateTopic {
            name: name.to_string(),
            kind: TopicKind::Mixed,
            queues,
        };
        let outcome = self.act(Action::CreateTopic(create));
        assert!(matches!(outcome, Outcome::TopicCreated(Ok(_))), "{outcome:?}");
    }

    pub fn group(&mut self, name: &str, fifo: bool, max_attempts: u32) {
        let create = CreateConsumerGroup {
            name: name.to_string(),
            fifo,
            max_attempts,
            from: ConsumeFrom::Earliest,
        };
        let outcome = self.act(Action::CreateConsumerGroup(create));
        assert!(matches!(outcome, Outcome::ConsumerGroupCreated(Ok(_))), "{outcome:?}");
    }

    /// One message to a queue.
    pub fn send(&mut self, topic: &str, queue_id: u32, id: &str, tag: &str, message_group: &str) -> SendResult {
        let message = message(topic, queue_id, id, tag, message_group);
        self.send_all(topic, vec![message]).expect("sent")[0]
    }

    pub fn send_all(
        &mut self,
        topic: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<SendResult>, crate::state::outcome::SendError> {
        let send = Send {
            client_id: "producer".to_string(),
            topic: topic.to_string(),
            messages,
        };
        match self.act(Action::Send(send)) {
            Outcome::Sent(result) => result,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub fn plan(&self, group: &str, topic: &str, attempt_id: &str, filter: &Filter, reserved: &Reserved) -> Plan {
        self.plan_upto(group, topic, attempt_id, filter, reserved, 32)
    }

    pub fn plan_upto(
        &self,
        group: &str,
        topic: &str,
        attempt_id: &str,
        filter: &Filter,
        reserved: &Reserved,
        max_messages: usize,
    ) -> Plan {
        let request = PlanRequest {
            consumer_group: group,
            topic,
            client_id: "consumer",
            attempt_id,
            max_messages,
            max_bytes: 4 << 20,
            filter,
            now_ms: self.now_ms,
            start_queue: self.log.len() as u32,
            reserved,
        };
        self.view.plan_receive(&request).expect("plan")
    }

    pub fn lease_command(&mut self, group: &str, topic: &str, attempt_id: &str, ranges: &[PlannedRange]) -> Command {
        self.command(Action::Lease(Lease {
            consumer_group: group.to_string(),
            topic: topic.to_string(),
            invisible_ms: 10_000,
            auto_renew: false,
            client_id: "consumer".to_string(),
            attempt_id: attempt_id.to_string(),
            ranges: ranges.to_vec(),
        }))
    }

    pub fn lease(&mut self, command: &Command) -> Leased {
        match self.propose(command) {
            Outcome::Leased(Ok(leased)) => leased,
            outcome => panic!("{outcome:?}"),
        }
    }

    /// Plans and leases up to 32 messages for 10 s.
    pub fn receive(&mut self, group: &str, topic: &str) -> Received {
        self.receive_as(group, topic, "", &Filter::All)
    }

    pub fn receive_as(&mut self, group: &str, topic: &str, attempt_id: &str, filter: &Filter) -> Received {
        let plan = self.plan(group, topic, attempt_id, filter, &Reserved::new());
        let command = self.lease_command(group, topic, attempt_id, &plan.ranges);
        let leased = self.lease(&command);
        Received { plan, leased }
    }

    pub fn handle(&self, topic: &str, granted: &Granted) -> ReceiptHandle {
        ReceiptHandle {
            broker_group: BROKER_GROUP.to_string(),
            topic: self.view.topic(topic).expect("topic").id,
            queue_id: granted.queue_id,
            offset: granted.offset,
            lease: granted.lease,
        }
    }

    pub fn ack(&mut self, group: &str, topic: &str, handle: &ReceiptHandle) -> bool {
        let ack = Ack {
            consumer_group: group.to_string(),
            topic: topic.to_string(),
            handles: vec![handle.clone()],
        };
        match self.act(Action::Ack(ack)) {
            Outcome::Acked(Ok(results)) => results[0].is_ok(),
            outcome => panic!("{outcome:?}"),
        }
    }

    pub fn change(
        &mut self,
        group: &str,
        topic: &str,
        handle: &ReceiptHandle,
        invisible_ms: u64,
        suspend: bool,
    ) -> Option<ReceiptHandle> {
        let change = ChangeVisibility {
            consumer_group: group.to_string(),
            topic: topic.to_string(),
            handle: handle.clone(),
            invisible_ms,
            suspend,
        };
        match self.act(Action::ChangeVisibility(change)) {
            Outcome::VisibilityChanged(result) => result.ok(),
            outcome => panic!("{outcome:?}"),
        }
    }

    pub fn digest(&self) -> u128 {
        let (applied, digest) = self.view.digest().expect("digest");
        assert_eq!(applied.map(|id| id.index), Some(LogIndex(self.log.len() as u64 - 1)));
        digest
    }
}

pub fn message(topic: &str, queue_id: u32, id: &str, tag: &str, message_group: &str) -> NewMessage {
    NewMessage {
        queue_id,
        record: record(topic, id, tag, message_group, &format!("body of {id}")).encode(),
    }
}

/// (queue, offset, attempt) of what was granted.
pub fn places(leased: &Leased) -> Vec<(u32, u64, u32)> {
    leased
        .granted
        .iter()
        .map(|granted| (granted.queue_id, granted.offset.0, granted.attempt))
        .collect()
}
