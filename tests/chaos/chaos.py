"""Kills and freezes replicas under the load of the official client, then counts. See ../README.md; run it with ./run."""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import verdict
import wire
from history import History
from replicas import Cluster
from workload import Workload


def plan(options, chance):
    """The faults in order: kills of the leader, a follower's about as often as asked, freezes spread between them."""
    kills = ["leader"] * (options.kills - options.follower_kills) + ["follower"] * options.follower_kills
    faults = [("kill", role) for role in kills] + [("stop", "leader")] * options.stops
    chance.shuffle(faults)
    return faults


class Chaos:
    def __init__(self, cluster, history, chance, options):
        self.cluster, self.history, self.chance, self.options = cluster, history, chance, options
        self.faults, self.outages, self.problems, self.recoveries = [], [], [], []

    def victim(self, role):
        leader = self.cluster.leader()
        if role == "leader":
            return leader
        return self.chance.choice([r for r in self.cluster.replicas.values() if r.id != leader.id])

    def one(self, number, fault, role):
        replica = self.victim(role)
        note = dict(fault=fault, role=role, replica=replica.id, address=replica.access_point)
        if fault == "kill":
            at = self.cluster.kill(replica)
            self.faults.append({"t": at, **note})
            time.sleep(self.chance.uniform(*self.options.down_s))
            self.cluster.start(replica)
        else:
            at = self.cluster.freeze(replica)
            self.faults.append({"t": at, **note})
            time.sleep(self.options.stop_s)
            self.cluster.thaw(replica)
        back = time.monotonic()
        try:
            self.recoveries.append(self.cluster.wait_healthy(90))
        except RuntimeError as error:
            self.problems.append(f"after fault {number} ({fault} of {role} {replica.id}): {error}")
            raise
        healthy = time.monotonic()
        self.outages.append((replica.access_point, at, healthy))
        self.history.add("fault", t=at, back=back, healthy=healthy, **note)
        wait = self.chance.uniform(*self.options.interval_s) - (time.monotonic() - at)
        # A paused or slow cluster gets at least a moment of quiet, so that pauses belong to one fault.
        time.sleep(max(wait, 1.0))

    def run(self):
        for number, (fault, role) in enumerate(plan(self.options, self.chance)):
            self.one(number, fault, role)
            if number % 10 == 9:
                print(f"  {number + 1} faults, recovery {verdict.spread(self.recoveries[-10:])}", flush=True)


def judge(workload, chaos, ended, lag):
    sends = verdict.Sends(workload.folder / "send.jsonl")
    simple = verdict.Receipts(workload.folder / "simple.jsonl")
    push = verdict.Receipts(workload.folder / "push.jsonl")
    access_points = [replica.access_point for replica in workload.cluster.replicas.values()]
    stored = [m for topic in (workload.normal_topic, workload.fifo_topic) for m in wire.read_everything(access_points, topic)]
    write_down(workload, stored)
    places = verdict.copies(stored)
    normal_failed, fifo_dead, fifo_failed = sends.split_failures(workload.addresses, chaos.outages)

    by_kind = {"kill leader": [], "kill follower": [], "stop": []}
    for fault, pause in verdict.pauses(sends.ack_times(), chaos.faults, ended):
        kind = "stop" if fault["fault"] == "stop" else f"kill {fault['role']}"
        by_kind[kind].append(pause)
    only_normal = {"kill": [], "stop": []}
    for fault, pause in verdict.pauses(sends.ack_times(fifo=False), chaos.faults, ended):
        only_normal[fault["fault"]].append(pause)

    received = {True: push.received, False: simple.received}
    not_received = [key for key in sends.acked if key not in received[bool(sends.intents[key].get("message_group"))]]
    kills = by_kind["kill leader"] + by_kind["kill follower"]
    result = {
        "sent": len(sends.intents),
        "acked": len(sends.acked),
        "in_flight_at_end": len(sends.intents) - len(sends.acked) - len(sends.failed),
        "failed_normal": len(normal_failed),
        "failed_fifo_address_dead": len(fifo_dead),
        "failed_fifo_other": len(fifo_failed),
        "stored": len(stored),
        "lost": sum(key not in places for key in sends.acked),
        "not_received": len(not_received),
        "copies": sum(len(found) - 1 for found in places.values() if len(found) > 1),
        "redelivered_after_ack": len(simple.redelivered_after_ack()) + len(push.redelivered_after_ack()),
        "delivered_again": {"simple": simple.delivered_again(), "push": push.delivered_again()},
        "ack_failures": {"simple": simple.ack_failures, "push": push.ack_failures},
        "corrupted": simple.corrupted + push.corrupted,
        "fifo_order_stored": len(verdict.stored_order_violations(stored)),
        "fifo_order_delivered": len(push.order_violations()),
        "lag_at_end": lag,
        "faults": {kind: len(values) for kind, values in by_kind.items()},
        "pause_s": {kind: verdict.spread(values) for kind, values in by_kind.items()},
        "pause_kill_s": verdict.spread(kills),
        "pause_normal_senders_s": {kind: verdict.spread(values) for kind, values in only_normal.items()},
        "recovery_s": verdict.spread(chaos.recoveries),
        "problems": chaos.problems,
    }
    examples = {
        "failed_normal": normal_failed[:10],
        "failed_fifo_other": fifo_failed[:5],
        "not_received": not_received[:5],
        "lost": [key for key in sends.acked if key not in places][:5],
        "copies": [(k, v) for k, v in places.items() if len(v) > 1][:5],
        "redelivered_after_ack": (simple.redelivered_after_ack() + push.redelivered_after_ack())[:5],
        "fifo_order": (verdict.stored_order_violations(stored) + push.order_violations())[:5],
    }
    result["examples"] = {name: found for name, found in examples.items() if found}
    return result, verdict_of(result, kills, by_kind["stop"])


def write_down(workload, stored):
    """What `ledgermq-sim check` needs beside what the clients wrote: the consumer groups, and what lies in the queues."""
    history = History(workload.folder / "stored.jsonl")
    for name, fifo, topic in (
        (workload.simple_group, False, workload.normal_topic),
        (workload.push_group, True, workload.fifo_topic),
    ):
        history.add("group", t=0.0, consumer_group=name, fifo=fifo, max_attempts=17, consumes=[topic])
    for message in stored:
        system = message.system_properties
        key = json.loads(message.body)["key"]
        history.add("stored", topic=message.topic.name, queue=system.queue_id, offset=system.queue_offset, key=key)
    history.close()


def verdict_of(result, kills, stops):
    """What does not hold, in words; empty when all holds."""
    wrong = []
    for name in ("failed_normal", "failed_fifo_other", "lost", "not_received", "copies", "redelivered_after_ack", "corrupted"):
        if result[name]:
            wrong.append(f"{name} = {result[name]}")
    for name in ("fifo_order_stored", "fifo_order_delivered"):
        if result[name]:
            wrong.append(f"{name}: {result[name]} violations")
    if kills and verdict.percentile(kills, 0.5) > 0.3:
        wrong.append(f"median pause after a kill {verdict.percentile(kills, 0.5):.3f} s > 0.3 s")
    if kills and max(kills) > 1.0:
        wrong.append(f"longest pause after a kill {max(kills):.3f} s > 1 s")
    if stops and max(stops) > 2.5:
        wrong.append(f"longest pause after a SIGSTOP {max(stops):.3f} s > 2.5 s")
    return wrong + result["problems"]


def main():
    parser = argparse.ArgumentParser(description="Kills and freezes replicas under the load of the official Python client.")
    parser.add_argument("--kills", type=int, default=200, help="kills in all")
    parser.add_argument("--follower-kills", type=int, help="of these, of a follower; default: a tenth")
    parser.add_argument("--stops", type=int, default=20, help="SIGSTOPs of the leader")
    parser.add_argument("--stop-s", type=float, default=5.0)
    parser.add_argument("--interval-s", type=float, nargs=2, default=(5.0, 10.0), help="time between faults, from and to")
    parser.add_argument("--down-s", type=float, nargs=2, default=(0.5, 2.0), help="time a killed replica stays away")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--producers", type=int, default=1, help="Producer objects that the 8 sending threads share")
    parser.add_argument("--pace-ms", type=float, default=25.0, help="rest of a sending thread after each ack")
    parser.add_argument("--json", type=Path, help="the figures, as JSON")
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    if options.follower_kills is None:
        options.follower_kills = options.kills // 10
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    out = options.out or Path("chaos-" + time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
    out.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, histories in {out}", flush=True)
    started = time.monotonic()
    with Cluster(data=out / "cluster") as cluster:
        cluster.wait_healthy()
        workload = Workload(cluster, out, producers=options.producers, pace_ms=options.pace_ms)
        print(f"access point {workload.access_point}; FIFO message groups at {workload.addresses}", flush=True)
        workload.start()
        history = History(out / "faults.jsonl")
        chaos = Chaos(cluster, history, random.Random(seed), options)
        time.sleep(3)
        try:
            chaos.run()
        except RuntimeError as error:
            print(f"stopped: {error}", file=sys.stderr)
        ended = time.monotonic()
        workload.stop_sending()
        lag = workload.wait_consumed()
        workload.stop()
        history.close()
        result, wrong = judge(workload, chaos, ended, lag)
    result.update(seed=seed, seconds=round(time.monotonic() - started, 1), holds=not wrong, wrong=wrong)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print("all holds" if not wrong else "DOES NOT HOLD: " + "; ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
