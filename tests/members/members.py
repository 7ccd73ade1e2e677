"""A broker group grows 1 → 3 → 5 and shrinks to 3 under load, its leader killed and started again in each step. See ../README.md."""

import argparse
import json
import sys
import time
from pathlib import Path

import verdict
import wire
from replicas import Cluster
from workload import Workload

# The official client asks for routes every 30 s: until then it does not know a new replica, and still uses one that left.
ROUTE_REFRESH_S = 35.0


class Steps:
    """The changes, each with its time for the judgement of pauses."""

    def __init__(self, cluster, options):
        self.cluster, self.options, self.faults = cluster, options, []

    def note(self, fault, **fields):
        self.faults.append({"t": time.monotonic(), "fault": fault, **fields})

    def add(self, replica_id):
        replica = self.cluster.new_replica(replica_id)
        self.note("add", replica=replica_id)
        at = time.monotonic()
        peer, client = self.cluster.addresses(replica)
        arguments = ["--id", str(replica_id), "--peer-address", peer, "--client-address", client]
        self.change("add", *arguments, "--promote", "--wait", "60s")
        self.faults[-1]["voter_after_s"] = round(time.monotonic() - at, 3)

    def remove(self, replica_id):
        self.note("remove", replica=replica_id, leading=self.cluster.leader().id == replica_id)
        self.change("remove", "--id", str(replica_id))

    def change(self, verb, *arguments):
        """The command; once more where it was not possible just then (a new replica may not listen yet)."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.cluster.command("replica", verb, "--broker-group", "broker-a", *arguments, timeout=90)
            except RuntimeError as error:
                if "exit code 5" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def kill_leader(self):
        time.sleep(self.options.quiet_s)
        leader = self.cluster.leader()
        self.note("SIGKILL of the leader", replica=leader.id)
        self.cluster.kill(leader)
        time.sleep(self.options.quiet_s)
        self.cluster.start(leader)
        self.cluster.wait_healthy(90)

    def grow(self, ids):
        for replica_id in ids:
            self.add(replica_id)
        self.cluster.wait_healthy(90)
        time.sleep(ROUTE_REFRESH_S)
        self.kill_leader()
        time.sleep(ROUTE_REFRESH_S)

    def shrink(self, count):
        """The leader of the moment leaves, then a follower; their processes end once no client uses them any more."""
        for number in range(count):
            leader = self.cluster.leader()
            others = [replica for replica in self.cluster.replicas.values() if replica.id != leader.id and replica.member]
            leaving = leader if number == 0 else others[-1]
            self.remove(leaving.id)
            leaving.member = False
            self.cluster.replica_count -= 1
        time.sleep(ROUTE_REFRESH_S)
        for replica in self.cluster.replicas.values():
            if not replica.member:
                self.cluster.terminate(replica)
        self.cluster.wait_healthy(90)
        self.kill_leader()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quiet-s", type=float, default=3.0)
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    with Cluster(replicas=1, data=options.out and options.out / "cluster") as cluster:
        cluster.wait_healthy()
        # FIFO message groups have one address each: what they see of a dead replica is the chaos command's to count.
        workload = Workload(cluster, options.out or cluster.folder, producers=options.producers, fifo_senders=0)
        workload.start()
        time.sleep(options.quiet_s)
        steps = Steps(cluster, options)
        steps.grow([2, 3])
        steps.grow([4, 5])
        steps.shrink(2)
        time.sleep(options.quiet_s)
        ended = time.monotonic()
        workload.stop_sending()
        workload.access_point = cluster.leader().access_point
        lag = workload.wait_consumed()
        workload.stop()
        sends = verdict.Sends(workload.folder / "send.jsonl")
        receipts = verdict.Receipts(workload.folder / "simple.jsonl")
        access_points = [replica.access_point for replica in cluster.replicas.values() if replica.member]
        stored = list(wire.read_everything(access_points, workload.normal_topic))
        listed = json.loads(cluster.command("replica", "list", "--json"))["replicas"]
    places = verdict.copies(stored)
    pauses = verdict.pauses(sends.ack_times(), steps.faults, ended)
    result = {
        "sent": len(sends.intents),
        "acked": len(sends.acked),
        "failed": len(sends.failed),
        "errors": sorted({failure["error"][:160] for failure in sends.failed.values()})[:6],
        "lost": sum(key not in places for key in sends.acked),
        "copies": sum(len(found) - 1 for found in places.values()),
        "received": len(receipts.received),
        "never_received": sum(key not in receipts.received for key in sends.acked),
        "lag_at_end": lag,
        "voters": sorted(replica["id"] for replica in listed if replica["voter"]),
        "steps": [
            {**{name: value for name, value in fault.items() if name != "t"}, "pause_s": round(pause, 4)} for fault, pause in pauses
        ],
        "pause_change_s": verdict.spread([pause for fault, pause in pauses if "SIGKILL" not in fault["fault"]]),
        "pause_kill_s": verdict.spread([pause for fault, pause in pauses if "SIGKILL" in fault["fault"]]),
    }
    wrong = [f"{name} = {result[name]}" for name in ("failed", "lost", "copies", "never_received") if result[name]]
    wrong += [f"voters = {result['voters']}"] if len(result["voters"]) != 3 else []
    return verdict.conclude(result, wrong, options.json)


if __name__ == "__main__":
    sys.exit(main())
