"""A replica's folder is deleted under load and replaced with one command, again and again; one stays away until its log is cut.

Each round has a load of its own: what is timed there is set against the same load just before. See ../README.md; run ./run.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import disk
import fill
import verdict
import wire
from replicas import Cluster
from workload import Workload


class Round:
    """A load, what it measured before, and what while a replica was rebuilt."""

    def __init__(self, cluster, folder, victim, options):
        self.cluster, self.victim, self.options = cluster, victim, options
        # The clients' access point stays.
        others = [replica for replica in cluster.replicas.values() if replica.id != victim.id]
        self.workload = Workload(cluster, folder, fifo_senders=0, consumers=False, size=options.body, access_point=others[0].access_point)
        self.result = {"victim": victim.id, "leading": cluster.leader().id == victim.id}

    def before(self):
        if self.options.cold:
            folders = [self.cluster.data_folder(replica) / "replica" for replica in self.cluster.replicas.values()]
            self.result["cached_bytes"] = sum(disk.drop_cache(folder) or 0 for folder in folders)
        self.workload.start()
        time.sleep(2)
        self.since = time.monotonic()
        time.sleep(self.options.before_s)
        self.broken = time.monotonic()

    def after(self, rebuilt):
        """Ends the load and judges it. `rebuilt`: the replica that was brought back."""
        ended = time.monotonic()
        self.workload.stop_sending()
        self.workload.stop()
        sends = verdict.Sends(self.workload.folder / "send.jsonl")
        moved = fill.log_bytes(self.cluster, rebuilt)
        seconds = self.result["caught_up_s"]
        before, meanwhile = sends.latencies(self.since, self.broken), sends.latencies(self.broken, ended)
        self.result.update(
            log_bytes=moved,
            mb_s=round(moved / 1e6 / seconds, 1),
            before_ms=milliseconds(before),
            meanwhile_ms=milliseconds(meanwhile),
            sent=len(sends.intents),
            failed=len(sends.failed),
            errors=sorted({failure["error"][:160] for failure in sends.failed.values()})[:3],
            lost=len(lost(self.cluster, self.workload, sends)),
            digests=digests(self.cluster),
        )
        return self.result


def milliseconds(seconds):
    shares = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    return {"count": len(seconds), **{name: round(1000 * verdict.percentile(seconds, share), 2) for name, share in shares if seconds}}


def lost(cluster, workload, sends):
    """Keys that were acknowledged and cannot be read."""
    access_points = [replica.access_point for replica in cluster.replicas.values()]
    places = verdict.copies(wire.read_everything(access_points, workload.normal_topic))
    return [key for key in sends.acked if key not in places]


def digests(cluster):
    """"equal", or what `ledgermq cluster --digest` says instead."""
    try:
        cluster.command("cluster", "--digest", timeout=90)
        return "equal"
    except RuntimeError as error:
        return str(error)


def replace(cluster, folder, options, victim):
    """The folder goes, then the process; an empty replica and one command put another in its place."""
    turn = Round(cluster, folder, victim, options)
    turn.before()
    subprocess.run(["rm", "-rf", str(cluster.data_folder(victim))], check=True)
    cluster.kill(victim)
    time.sleep(options.lost_s)
    # As an operator would: the command goes to the cluster, not to the replica that is no member yet.
    endpoints = ";".join(replica.access_point for replica in cluster.replicas.values() if replica.alive)
    new = cluster.new_replica(max(cluster.replicas) + 1)
    peer, client = cluster.addresses(new)
    names = ["--id", str(new.id), "--peer-address", peer, "--client-address", client]
    at = time.monotonic()
    asked = ["replica", "replace", "--broker-group", "broker-a", "--old", str(victim.id), *names, "--wait", f"{int(options.limit_s * 10)}s"]
    retried(cluster, endpoints, asked, options.limit_s * 11)
    turn.result["caught_up_s"] = round(time.monotonic() - at, 2)
    cluster.forget(victim)
    cluster.wait_healthy(90)
    return turn.after(new)


def retried(cluster, endpoints, command, timeout):
    """The new replica may not listen yet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return cluster.command(*command, timeout=timeout, endpoints=endpoints)
        except RuntimeError as error:
            if "exit code 5" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def away(cluster, folder, options, victim):
    """The replica is killed, stays away until the cut has passed all that it had, and is started again."""
    installed = snapshots(cluster)
    had = bounds(cluster, options.fill_topic)
    cluster.kill(victim)
    deadline = time.monotonic() + options.limit_s * 20
    while any(first < had[queue][1] for queue, (first, _) in bounds(cluster, options.fill_topic).items()):
        if time.monotonic() > deadline:
            raise RuntimeError("the cut did not come: is more kept than was filled?")
        fill.produce(cluster, fill.SLICE_S, options.fill_body, options.fill_in_flight, options.fill_topic)
    # The last look of the retention, and what follows it.
    time.sleep(15)
    turn = Round(cluster, folder, victim, options)
    turn.before()
    at = time.monotonic()
    cluster.start(victim)
    while not caught_up(cluster, victim):
        if time.monotonic() - at > options.limit_s * 10:
            raise RuntimeError(f"replica {victim.id} did not catch up within {options.limit_s * 10} s")
        time.sleep(0.1)
    turn.result.update(caught_up_s=round(time.monotonic() - at, 2), snapshots=snapshots(cluster) - installed)
    cluster.wait_healthy(90)
    return turn.after(victim)


def bounds(cluster, topic):
    admin = wire.Administration(cluster.leader().access_point)
    try:
        return admin.queues(topic)
    finally:
        admin.close()


def caught_up(cluster, replica):
    try:
        listed = json.loads(cluster.command("replica", "list", "--json", timeout=8.0))["replicas"]
    except (RuntimeError, subprocess.TimeoutExpired):
        return False
    return any(it["id"] == replica.id and it["caught_up"] and it["healthy"] for it in listed)


def snapshots(cluster):
    """How often a replica has installed one, by the log of all of them."""
    return (cluster.folder / "dev.log").read_text(errors="replace").count("installing a snapshot")


def judged(options, speed, replaced, returned):
    """What is wrong, in words."""
    wanted_mb_s = min(options.mb_s, speed["copy"] / 2)
    wrong = []
    for name, turns in (("replaced", replaced), ("away", returned)):
        for number, turn in enumerate(turns, 1):
            here = f"{name} {number}"
            wrong += [f"{here}: {turn['lost']} lost"] if turn["lost"] else []
            wrong += [f"{here}: {turn['failed']} failed"] if turn["failed"] else []
            wrong += [f"{here}: digests {turn['digests']}"] if turn["digests"] != "equal" else []
            wrong += [f"{here}: caught up after {turn['caught_up_s']} s"] if turn["caught_up_s"] > options.limit_s else []
            wrong += [f"{here}: {turn['mb_s']} MB/s of {wanted_mb_s:.0f}"] if turn["mb_s"] < wanted_mb_s else []
        ratio = p99_ratio(turns)
        wrong += [f"{name}: p99 is {ratio:.2f} times that of before"] if ratio and ratio > options.p99_ratio else []
    wrong += [f"away {n}: no snapshot" for n, turn in enumerate(returned, 1) if not turn["snapshots"]]
    return wrong


def p99_ratio(turns):
    """The median over the rounds: one round's p99 is a matter of a few messages."""
    ratios = [turn["meanwhile_ms"]["p99"] / turn["before_ms"]["p99"] for turn in turns if turn["before_ms"].get("p99")]
    return round(verdict.percentile(ratios, 0.5), 3) if ratios else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=disk.size, default=disk.size("10GiB"), help="bytes of log that a replica has")
    parser.add_argument("--segment", type=disk.size, default=disk.size("1GiB"))
    parser.add_argument("--rounds", type=int, default=10, help="replicas replaced")
    parser.add_argument("--away", type=int, default=1, help="replicas kept away until the cut has passed them")
    parser.add_argument("--fill-body", default="256KiB", help="bytes of a message that fills the log")
    parser.add_argument("--fill-in-flight", type=int, default=24)
    parser.add_argument("--body", type=int, default=1024, help="bytes of a message of the load")
    parser.add_argument("--before-s", type=float, default=15.0, help="how long the load is measured before")
    parser.add_argument("--lost-s", type=float, default=1.0, help="from the loss of a folder to its replacement")
    parser.add_argument("--warm", dest="cold", action="store_false", help="leave the logs in the page cache")
    parser.add_argument("--limit-s", type=float, default=60.0, help="caught up within this")
    parser.add_argument("--mb-s", type=float, default=200.0, help="rebuilt at least this fast, or half as fast as the disk copies")
    parser.add_argument("--p99-ratio", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    options.fill_topic = "fill"
    chance = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    # What is kept is what was filled: so the log of a replica that was away begins behind what it has.
    settings = {"segment_bytes": options.segment, "retention_bytes": max(options.log, options.segment)}
    replaced, returned = [], []
    with Cluster(data=options.out and options.out / "cluster", settings=settings) as cluster:
        cluster.wait_healthy()
        speed = disk.speed(cluster.folder, 1 << 30)
        print(f"the disk, MB/s: {speed}", flush=True)
        filled = fill.until(cluster, options.log, options.fill_body, options.fill_in_flight, options.fill_topic)
        print(f"filled: {filled}", flush=True)
        histories = options.out or cluster.folder
        for number in range(options.rounds):
            victim = chance.choice(list(cluster.replicas.values()))
            replaced.append(replace(cluster, histories / f"replaced-{number + 1}", options, victim))
            print(f"replaced {number + 1}: {json.dumps(replaced[-1])}", flush=True)
        for number in range(options.away):
            victim = chance.choice(list(cluster.replicas.values()))
            returned.append(away(cluster, histories / f"away-{number + 1}", options, victim))
            print(f"away {number + 1}: {json.dumps(returned[-1])}", flush=True)
        speed_after = disk.speed(cluster.folder, 1 << 30)
    result = {
        "seed": options.seed,
        "disk_mb_s": speed,
        "disk_after_mb_s": speed_after,
        "filled": filled,
        "caught_up_s": verdict.spread([turn["caught_up_s"] for turn in replaced]),
        "away_caught_up_s": verdict.spread([turn["caught_up_s"] for turn in returned]),
        "mb_s": [turn["mb_s"] for turn in replaced + returned],
        "p99_ratio": p99_ratio(replaced),
        "away_p99_ratio": p99_ratio(returned),
        "replaced": replaced,
        "away": returned,
    }
    return verdict.conclude(result, judged(options, speed, replaced, returned), options.json)


if __name__ == "__main__":
    sys.exit(main())
