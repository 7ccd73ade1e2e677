"""Kills three brokers at once that lose their un-synced log writes, again and again; then reads everything that was acked.

Each round: three `held-writes-broker` processes run under the load of many connections; all are killed with SIGKILL within
a millisecond; all are started again; it goes on as soon as they serve. At the end (and every --check rounds) the whole topic
is read: every acknowledged message must be there, once. See ../README.md; run ./power-loss.
"""

import argparse
import json
import os
import random
import sys
import threading
import time

import grpc
import verdict
import wire
from replicas import Cluster


class Sender(threading.Thread):
    """Sends one message after another through one door; a failed call is tried again at the next door with the same id."""

    def __init__(self, number, access_points, topic, stop):
        super().__init__(daemon=True)
        self.number, self.access_points, self.topic, self.stop = number, access_points, topic, stop
        self.acked, self.unknown = [], []

    def run(self):
        doors = [wire.Door(a, client_id=f"power-loss@{self.number}") for a in self.access_points]
        sequence = 0
        while not self.stop.is_set():
            key = f"{self.number}-{sequence}"
            body = json.dumps({"key": key, "message_group": None, "sequence": sequence}).encode() + b" " * 700
            message = wire.message(self.topic, body)
            done, began = False, time.monotonic()
            # Within the dedupe window (30 s) a repeat is known; after it the outcome stays unknown.
            while not done and not self.stop.is_set() and time.monotonic() - began < 25:
                try:
                    answer = doors[random.randrange(len(doors))].send(message, timeout=3)
                    done = answer.status.code == wire.Code.OK
                except grpc.RpcError:
                    pass
                if not done:
                    time.sleep(0.05)
            if done:
                self.acked.append(key)
            else:
                self.unknown.append(key)
            sequence += 1


def check(cluster, topic, senders):
    """Reads everything: (acked, lost keys, copies)."""
    acked = [key for sender in senders for key in list(sender.acked)]
    stored = wire.read_everything([r.access_point for r in cluster.replicas.values()], topic)
    places = verdict.copies(stored)
    return len(acked), [key for key in acked if key not in places], sum(len(p) - 1 for p in places.values()), len(stored)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--check", type=int, default=10, help="read everything every so many rounds")
    parser.add_argument("--senders", type=int, default=12)
    parser.add_argument("--load-s", type=float, nargs=2, default=(1.0, 3.0), help="load between kills, from and to")
    parser.add_argument("--broker", default=os.path.join(os.environ["LEDGERMQ_RELEASE_DIR"], "held-writes-broker"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    serving, lost, copies, acked, stored = [], [], 0, 0, 0
    print(f"seed {options.seed}", flush=True)
    with Cluster(broker_command=[options.broker]) as cluster:
        cluster.wait_healthy()
        # `ledgermq dev` started the production broker: replace it by the one that holds its writes, once.
        for replica in cluster.replicas.values():
            cluster.kill(replica)
        for replica in cluster.replicas.values():
            cluster.start(replica)
        cluster.wait_healthy()
        topic, stop = "power-loss", threading.Event()
        access_points = [replica.access_point for replica in cluster.replicas.values()]
        admin = wire.Administration(access_points[0])
        admin.create_topic(topic, "normal")
        admin.close()
        senders = [Sender(number, access_points, topic, stop) for number in range(options.senders)]
        for sender in senders:
            sender.start()
        before = 0
        for number in range(options.rounds):
            time.sleep(chance.uniform(*options.load_s))
            for replica in cluster.replicas.values():
                os.kill(replica.pid, 9)
            killed = time.monotonic()
            for replica in cluster.replicas.values():
                replica.process.wait()
            count = sum(len(sender.acked) for sender in senders)
            for replica in cluster.replicas.values():
                cluster.start(replica)
            # Serving again: the first new ack.
            while sum(len(sender.acked) for sender in senders) <= count:
                if time.monotonic() - killed > 60:
                    raise RuntimeError(f"round {number}: no ack within 60 s of the kill: {cluster.state()}")
                time.sleep(0.005)
            serving.append(time.monotonic() - killed)
            cluster.wait_healthy()
            if (number + 1) % options.check == 0 or number + 1 == options.rounds:
                acked, missing, copies, stored = check(cluster, topic, senders)
                lost += missing
                print(f"round {number + 1}: {acked} acked, {acked - before} since the last check, {len(missing)} lost, {copies} copies", flush=True)
                before = acked
        stop.set()
        for sender in senders:
            sender.join(30)
        acked, missing, copies, stored = check(cluster, topic, senders)
        lost += missing
    result = {
        "rounds": options.rounds,
        "acked": acked,
        "stored": stored,
        "lost": len(set(lost)),
        "lost_keys": sorted(set(lost))[:10],
        "copies": copies,
        "unknown_outcome": sum(len(sender.unknown) for sender in senders),
        "serving_again_s": verdict.spread(serving),
        "seed": options.seed,
        "holds": not lost and not copies,
    }
    print(json.dumps(result, indent=2))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=2)
    print("nothing acknowledged was lost" if result["holds"] else "DOES NOT HOLD")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
