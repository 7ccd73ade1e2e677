//! What applying costs: sends by one and by thirty-two an entry, on both stores, and a whole life of a message
//! (send, plan, lease, ack). One iteration is one entry; throughput is told in messages.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ledgermq_broker::state::command::{
    Ack, Action, Command, CreateConsumerGroup, CreateTopic, Lease, NewMessage, Send,
};
use ledgermq_broker::state::effects::NoEffects;
use ledgermq_broker::state::handle::ReceiptHandle;
use ledgermq_broker::state::identity::RequestId;
use ledgermq_broker::state::kv::Kv;
use ledgermq_broker::state::kv::memory::MemoryKv;
use ledgermq_broker::state::kv::rocks::{RocksKv, RocksSettings};
use ledgermq_broker::state::machine::{Settings, StateMachine};
use ledgermq_broker::state::outcome::Outcome;
use ledgermq_broker::state::plan::{Filter, PlanRequest, Reserved};
use ledgermq_broker::state::record::{BodyEncoding, MessageType, Record};
use ledgermq_broker::state::topic::{ConsumeFrom, TopicKind};
use ledgermq_broker::state::view::View;
use ledgermq_raft_store::{EntryId, Machine};
use std::sync::Arc;

/// A machine and how far it is.
struct Bench {
    machine: StateMachine,
    view: View,
    index: u64,
    ids: u64,
    /// Log time runs on, so that the window of duplicates stays as full as at 50,000 messages a second.
    now_us: u64,
}

impl Bench {
    fn new(kv: Arc<dyn Kv>) -> Bench {
        let (machine, view) =
            StateMachine::open(kv, "broker-a", Settings::default(), Arc::new(NoEffects)).expect("open");
        let mut bench = Bench {
            machine,
            view,
            index: 0,
            ids: 0,
            now_us: 1_000_000_000,
        };
        bench.act(Action::CreateTopic(CreateTopic {
            name: "t".to_string(),
            kind: TopicKind::Mixed,
            queues: 8,
        }));
        bench.act(Action::CreateConsumerGroup(CreateConsumerGroup {
            name: "g".to_string(),
            fifo: false,
            max_attempts: 17,
            from: ConsumeFrom::Earliest,
        }));
        bench
    }

    fn command(&mut self, action: Action) -> Bytes {
        self.ids += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.ids.to_le_bytes());
        Command {
            stamp_ms: self.now_us / 1_000,
            request_id: RequestId(id),
            action,
        }
        .encode()
    }

    fn apply(&mut self, commands: &[(u32, Bytes)]) -> Vec<Outcome> {
        self.index += 1;
        self.machine
            .apply(EntryId::new(1, self.index), commands)
            .expect("apply")
    }

    fn act(&mut self, action: Action) -> Outcome {
        let command = self.command(action);
        self.apply(&[(8, command)]).remove(0)
    }

    fn sends(&mut self, count: u64) -> Vec<(u32, Bytes)> {
        let mut at = 4u32;
        let sends = (0..count).map(|n| {
            self.now_us += 20;
            let record = Record {
                topic: "t".to_string(),
                message_id: format!("01ABCDEF0123456789{:016X}", self.ids),
                tag: String::new(),
                keys: Vec::new(),
                message_group: String::new(),
                born_timestamp_ms: 1_800_000_000_000,
                born_host: "10.0.0.1:50000".to_string(),
                store_host: "10.0.0.2:8081".to_string(),
                body_encoding: BodyEncoding::Identity,
                message_type: MessageType::Normal,
                delivery_timestamp_ms: None,
                trace_context: String::new(),
                properties: Vec::new(),
                body: vec![7; 1024].into(),
            };
            let messages = vec![NewMessage {
                queue_id: (n % 8) as u32,
                record: record.encode(),
            }];
            let send = Send {
                client_id: "producer@1".to_string(),
                topic: "t".to_string(),
                messages,
            };
            let command = self.command(Action::Send(send));
            let slot = at + 4;
            at += 4 + command.len() as u32;
            (slot, command)
        });
        sends.collect()
    }

    /// Sends 32, receives them, acknowledges all in one entry.
    fn life(&mut self) {
        let sends = self.sends(32);
        self.apply(&sends);
        let plan = self
            .view
            .plan_receive(&PlanRequest {
                consumer_group: "g",
                topic: "t",
                client_id: "consumer",
                attempt_id: "",
                max_messages: 32,
                max_bytes: 4 << 20,
                filter: &Filter::All,
                now_ms: self.now_us / 1_000,
                start_queue: 0,
                reserved: &Reserved::new(),
            })
            .expect("plan");
        let outcome = self.act(Action::Lease(Lease {
            consumer_group: "g".to_string(),
            topic: "t".to_string(),
            invisible_ms: 30_000,
            auto_renew: false,
            client_id: "consumer".to_string(),
            attempt_id: String::new(),
            ranges: plan.ranges,
        }));
        let Outcome::Leased(Ok(leased)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(leased.granted.len(), 32);
        let acks: Vec<(u32, Bytes)> = leased
            .granted
            .iter()
            .map(|granted| {
                let handle = ReceiptHandle {
                    broker_group: "broker-a".to_string(),
                    topic: leased.topic,
                    queue_id: granted.queue_id,
                    offset: granted.offset,
                    lease: granted.lease,
                };
                let ack = Ack {
                    consumer_group: "g".to_string(),
                    topic: "t".to_string(),
                    handles: vec![handle],
                };
                (8, self.command(Action::Ack(ack)))
            })
            .collect();
        self.apply(&acks);
    }
}

fn sends(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    for store in ["memory", "rocksdb"] {
        for count in [1u64, 32, 512] {
            let kv: Arc<dyn Kv> = match store {
                "memory" => Arc::new(MemoryKv::new()),
                _ => {
                    let path = folder.path().join(count.to_string());
                    Arc::new(RocksKv::open(&path, RocksSettings::default()).expect("open"))
                }
            };
            let mut bench = Bench::new(kv);
            let mut group = criterion.benchmark_group(format!("send/{store}"));
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("{count} an entry"), |bencher| {
                // The commands are made outside of what is measured; both closures need the machine.
                let shared = std::cell::RefCell::new(&mut bench);
                bencher.iter_batched(
                    || shared.borrow_mut().sends(count),
                    |commands| shared.borrow_mut().apply(&commands),
                    BatchSize::PerIteration,
                );
            });
            group.finish();
        }
    }
}

fn lives(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let kv = RocksKv::open(&folder.path().join("kv"), RocksSettings::default()).expect("open");
    let mut bench = Bench::new(Arc::new(kv));
    let mut group = criterion.benchmark_group("life/rocksdb");
    group.throughput(Throughput::Elements(32));
    group.bench_function("send, lease, ack of 32", |bencher| bencher.iter(|| bench.life()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(std::time::Duration::from_secs(4)).sample_size(30);
    targets = sends, lives
}
criterion_main!(benches);
