"""Retention cuts under load: what the disks hold, whether replicas stay equal, and where a consumer goes on that is behind the cut.

See ../README.md; run ./run. Two stages on fresh clusters: what a message takes on the disk while nothing is forgotten, then the cuts.
"""

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import disk
import verdict
import wire
from replicas import Cluster
from workload import Workload

CUT = re.compile(r"old messages are forgotten.*?upto=(\d+)")
TOPIC = "load"


def bench(cluster, options, seconds):
    command = [cluster.binary, "bench", "produce", "--unary", "--size", str(options.body), "--in-flight", str(options.in_flight)]
    command += ["--duration", f"{int(seconds * 1000)}ms", "--topic", TOPIC, "--endpoints", cluster.endpoints]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def queues(cluster, topic=TOPIC):
    """{queue id: (first offset, next offset)}."""
    admin = wire.Administration(cluster.leader().access_point)
    try:
        return {queue: bounds for (_, queue), bounds in admin.queues(topic).items()}
    finally:
        admin.close()


def folders(cluster):
    return {replica.id: disk.allocated(cluster.data_folder(replica)) for replica in cluster.replicas.values()}


def digests(cluster):
    try:
        cluster.command("cluster", "--digest", timeout=90)
        return "equal"
    except RuntimeError as error:
        return str(error)


# Stage 1: bytes on disk for each byte of message.


def cost(options):
    """Fills without forgetting. Each figure is a growth, so what an empty replica takes does not count."""
    with Cluster(settings={"segment_bytes": options.segment}) as cluster:
        cluster.wait_healthy()
        bench(cluster, options, 1).wait(60)
        settled(cluster)
        before, first = folders(cluster), sent(cluster)
        bench(cluster, options, options.cost_s).wait(options.cost_s * 2 + 60)
        settled(cluster)
        after, messages = folders(cluster), sent(cluster) - first
        fields = message_fields(cluster)
    grown = [after[replica] - before[replica] for replica in after]
    return {
        "messages": messages,
        "body_bytes": options.body,
        "message_bytes": options.body + fields,
        "disk_bytes_a_message": [round(bytes_ / messages, 1) for bytes_ in grown],
        "per_body_byte": round(max(grown) / (messages * options.body), 4),
        "per_message_byte": round(max(grown) / (messages * (options.body + fields)), 4),
    }


def sent(cluster):
    return sum(last for _, last in queues(cluster).values())


def settled(cluster):
    """The state is flushed after thirty seconds at the latest, and with it what it forgets."""
    cluster.wait_healthy()
    time.sleep(33)


def message_fields(cluster):
    """Bytes of a message besides its body, as it is handed out: its names, ids and times are the client's, not the store's."""
    group = "fields"
    admin = wire.Administration(cluster.leader().access_point)
    admin.create_consumer_group(group)
    admin.close()
    with wire.Door(cluster.leader().access_point) as door:
        _, messages = door.receive(TOPIC, group, batch=1)
    message = messages[0]
    message.system_properties.ClearField("receipt_handle")
    return message.ByteSize() - len(message.body)


# Stage 2: cuts.


class Watch(threading.Thread):
    """Samples what each replica's folder takes, and counts the cuts in the replicas' log."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.samples, self.cuts, self.ended = cluster, [], [], threading.Event()
        self.log = open(cluster.folder / "dev.log", encoding="utf-8", errors="replace")

    def run(self):
        while not self.ended.wait(1.0):
            found = [int(upto) for upto in CUT.findall(re.sub(r"\x1b\[[0-9;]*m", "", self.log.read()))]
            self.cuts += [upto for upto in found if not self.cuts or upto > self.cuts[-1]]
            self.samples.append((len(self.cuts), folders(self.cluster)))

    def stop(self):
        self.ended.set()
        self.join(10)
        self.log.close()

    def taken(self, since, until):
        """What the replicas took between two counts of cuts: the average, and the most that one had."""
        found = [bytes_ for cuts, sample in self.samples if since <= cuts < until for bytes_ in sample.values()]
        return (sum(found) // len(found), max(found)) if found else (0, 0)


def fall_behind(cluster, options):
    """Consumer groups that each had one batch, one for each look: {name}."""
    groups = [f"behind-{number}" for number in range(options.cuts // options.look + 1)]
    access_point = cluster.leader().access_point
    admin = wire.Administration(access_point)
    with wire.Door(access_point) as door:
        for group in groups:
            admin.create_consumer_group(group)
            _, messages = door.receive(TOPIC, group)
            door.ack(TOPIC, group, *messages)
    admin.close()
    return groups


def resume(cluster, group):
    """Receives with a consumer group that is behind until each queue gave a message: {queue: what is wrong}."""
    before, wrong, seen = queues(cluster), {}, {}
    deadline = time.monotonic() + 60
    with wire.Door(cluster.leader().access_point) as door:
        while len(seen) < len(before) and time.monotonic() < deadline:
            _, messages = door.receive(TOPIC, group, invisible_s=60.0)
            for message in messages:
                place = message.system_properties
                seen.setdefault(place.queue_id, []).append(place.queue_offset)
    after = queues(cluster)
    for queue, (first, _) in before.items():
        lowest = min(seen.get(queue, [-1]))
        # A cut may have come in between.
        if not first <= lowest <= max(first, after[queue][0]):
            wrong[queue] = f"resumed at {lowest}, first kept was {first}, then {after[queue][0]}"
    return wrong


def look(cluster, watch, group):
    found = {"cuts": len(watch.cuts), "digests": digests(cluster), "resumed_wrong": resume(cluster, group)}
    print(json.dumps(found), flush=True)
    return found


def cuts(options):
    settings = {"segment_bytes": options.segment, "retention_bytes": options.retention}
    with Cluster(settings=settings, data=options.out and options.out / "cluster") as cluster:
        cluster.wait_healthy()
        admin = wire.Administration(cluster.leader().access_point)
        admin.create_topic(TOPIC, "normal")
        admin.close()
        bench(cluster, options, 1).wait(60)
        groups = fall_behind(cluster, options)
        # Consumers of this load keep up: no cut may take from them what they have not had.
        workload = Workload(cluster, options.out or cluster.folder, fifo_senders=0)
        workload.start()
        watch, looks = Watch(cluster), []
        watch.start()
        deadline = time.monotonic() + 60 + options.cuts * 20
        load = None
        while len(watch.cuts) < options.cuts:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {len(watch.cuts)} cuts came")
            if load is None or load.poll() is not None:
                load = bench(cluster, options, 30)
            if len(watch.cuts) >= (len(looks) + 1) * options.look:
                looks.append(look(cluster, watch, groups.pop()))
            time.sleep(0.5)
        load.wait(90)
        workload.stop_sending()
        lag = workload.wait_consumed()
        workload.stop()
        cluster.wait_healthy()
        looks.append(look(cluster, watch, groups.pop()))
        time.sleep(12)
        watch.stop()
        sends = verdict.Sends(workload.folder / "send.jsonl")
        receipts = verdict.Receipts(workload.folder / "simple.jsonl")
        last = folders(cluster)
    half = options.cuts // 2
    first, second = watch.taken(options.cuts // 5, half), watch.taken(half, len(watch.cuts) + 1)
    return {
        "cuts": len(watch.cuts),
        "looks": looks,
        "bytes": {
            "retention": options.retention,
            "first_half": {"average": first[0], "max": first[1]},
            "second_half": {"average": second[0], "max": second[1]},
            "at_the_end": last,
        },
        "growth": round(second[0] / first[0], 4) if first[0] else None,
        "grown_max_segments": round((second[1] - first[1]) / options.segment, 2),
        "besides_the_retention_mib": round((second[0] - options.retention) / (1 << 20), 1),
        "sent": len(sends.intents),
        "failed": len(sends.failed),
        "never_received": sum(key not in receipts.received for key in sends.acked),
        "lag_at_end": lag,
        "latency_ms": [round(1000 * (verdict.percentile(sends.latencies(0, 1e18), share) or 0), 2) for share in (0.5, 0.99)],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--look", type=int, default=10, help="compare replicas and resume behind the cut every so many cuts")
    parser.add_argument("--segment", type=disk.size, default=disk.size("16MiB"))
    parser.add_argument("--retention", type=disk.size, default=disk.size("128MiB"))
    parser.add_argument("--body", type=int, default=1024)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--cost-s", type=float, default=40.0, help="how long the first stage sends")
    parser.add_argument("--cost", type=float, default=1.1, help="bytes on disk for each byte of message and replica, at most")
    parser.add_argument("--growth", type=float, default=1.05, help="the average in the second half against the first, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    spent = cost(options)
    print(json.dumps(spent), flush=True)
    cut = cuts(options)
    result = {"cost": spent, **cut}
    wrong = [f"{name} = {cut[name]}" for name in ("failed", "never_received") if cut[name]]
    wrong += [f"after {it['cuts']} cuts: digests {it['digests']}" for it in cut["looks"] if it["digests"] != "equal"]
    wrong += [f"after {it['cuts']} cuts: {it['resumed_wrong']}" for it in cut["looks"] if it["resumed_wrong"]]
    wrong += [f"the disk use grew {cut['growth']} times"] if not cut["growth"] or cut["growth"] > options.growth else []
    # Whole segments come and go: which of them a sample meets is chance.
    wrong += [f"the highest disk use grew by {cut['grown_max_segments']} segments"] if cut["grown_max_segments"] > 2 else []
    wrong += [f"{spent['per_message_byte']} bytes on disk per byte of message"] if spent["per_message_byte"] > options.cost else []
    return verdict.conclude(result, wrong, options.json)


if __name__ == "__main__":
    sys.exit(main())
