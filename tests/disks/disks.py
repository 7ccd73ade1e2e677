"""Disks that fail, fill up and stall, under the leader and under a follower: who leads, what producers see, what is said.

The brokers are `told-disk-broker`: the production broker on a disk that does what its standard input says. One fault more
needs no such broker: a small file system of its own under the leader, filled to the brim. See ../README.md; run ./run.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import fill
import verdict
import wire
from replicas import Cluster
from workload import Workload

# What is told to the disk, whether the replica must stop, and how long sends may pause: (leader, follower).
FAULTS = {
    "fail writes": {"word": "fail writes", "stops": True},
    "fail syncs": {"word": "fail syncs", "stops": True},
    "full": {"word": "fill", "stops": True},
    "stalls once": {"word": "stall once {stall_ms}", "stops": False},
    "stalls": {"word": "stall {stall_ms}", "stops": False},
}


class ToldCluster(Cluster):
    """Every replica once started again has a disk that can be told."""

    def start(self, replica):
        self.output = getattr(self, "output", {})
        self.output[replica.id] = self.folder / f"replica-{replica.id}.log"
        command = [os.path.join(os.environ["LEDGERMQ_RELEASE_DIR"], "told-disk-broker"), "--config", replica.config]
        with open(self.output[replica.id], "ab") as log:
            replica.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        replica.pid = replica.process.pid
        replica.alive = True

    def tell(self, replica, word):
        replica.process.stdin.write(word + "\n")
        replica.process.stdin.flush()
        answer = replica.process.stdout.readline().strip()
        if answer != word:
            raise RuntimeError(f"replica {replica.id} was told {word!r} and answered {answer!r}")

    def said(self, replica):
        """The last error of a replica."""
        return last_error(self.output[replica.id])


def last_error(path):
    text = re.sub(r"\x1b\[[0-9;]*m", "", Path(path).read_text(errors="replace"))
    lines = [line for line in text.splitlines() if re.search(r"\bERROR\b|^Error|error:", line)]
    return lines[-1][-300:] if lines else None


def leader_other_than(cluster, replica, timeout):
    """The replica that leads in the place of this one, or None."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        state = cluster.state()
        if state and state["leader"] not in (None, replica.id):
            return int(state["leader"])
        time.sleep(0.05)
    return None


def doctor(cluster, wait_s):
    """What `ledgermq doctor` finds at once, and what once the others have missed the replica for a while."""
    at_once = asked(cluster)
    time.sleep(wait_s)
    return {"at_once": at_once, "later": asked(cluster)}


def asked(cluster):
    """What `ledgermq doctor` finds, or None where there is no such command."""
    done = subprocess.run([cluster.binary, "doctor", "--endpoints", cluster.endpoints, "--json"], capture_output=True, text=True, timeout=30)
    if "unrecognized subcommand" in done.stderr:
        return None
    try:
        return {"exit": done.returncode, "findings": json.loads(done.stdout).get("findings")}
    except ValueError:
        return {"exit": done.returncode, "said": (done.stdout + done.stderr).strip()[:600]}


def strike(cluster, options, name, leading):
    """One fault under one replica; what became of it; and all well again."""
    fault = FAULTS[name]
    leader = cluster.leader()
    others = [replica for replica in cluster.replicas.values() if replica.id != leader.id]
    victim = leader if leading else others[0]
    time.sleep(options.quiet_s)
    turn = {"t": time.monotonic(), "fault": name, "replica": victim.id, "leading": leading}
    cluster.tell(victim, fault["word"].format(stall_ms=options.stall_ms))
    if fault["stops"]:
        try:
            turn["exit"] = victim.process.wait(options.stop_s)
            turn["stopped_after_s"] = round(time.monotonic() - turn["t"], 2)
            victim.alive = False
        except subprocess.TimeoutExpired:
            turn["exit"] = None
        turn["said"] = cluster.said(victim)
    else:
        time.sleep(options.stall_ms / 1000 + 2)
    turn["leader_then"] = leader_other_than(cluster, victim, 10) if leading and fault["stops"] else cluster.leader().id
    turn["doctor"] = doctor(cluster, options.doctor_s)
    turn["until"] = time.monotonic()
    if victim.process.poll() is None:
        cluster.tell(victim, "heal")
    else:
        cluster.start(victim)
    cluster.wait_healthy(90)
    return turn


def told(options):
    """All faults, in an order that the seed says."""
    chance = random.Random(options.seed)
    plan = [(name, leading) for name in options.faults for leading in (True, False)] * options.rounds
    chance.shuffle(plan)
    turns = []
    with ToldCluster(data=options.out and options.out / "cluster") as cluster:
        cluster.wait_healthy()
        for replica in cluster.replicas.values():
            cluster.kill(replica)
        for replica in cluster.replicas.values():
            cluster.start(replica)
        cluster.wait_healthy()
        workload = Workload(cluster, options.out or cluster.folder, fifo_senders=0)
        workload.start()
        time.sleep(3)
        for name, leading in plan:
            turns.append(strike(cluster, options, name, leading))
            print(json.dumps(turns[-1]), flush=True)
        time.sleep(options.quiet_s)
        result = ended(cluster, workload, turns)
    return result


def ended(cluster, workload, turns):
    """Ends the load and judges it."""
    at = time.monotonic()
    workload.stop_sending()
    lag = workload.wait_consumed()
    workload.stop()
    sends = verdict.Sends(workload.folder / "send.jsonl")
    access_points = [replica.access_point for replica in cluster.replicas.values()]
    places = verdict.copies(wire.read_everything(access_points, workload.normal_topic))
    for turn, pause in verdict.pauses(sends.ack_times(), turns, at):
        turn["pause_s"] = round(pause, 3)
        turn["failed"] = [failure["error"][:160] for failure in sends.failed.values() if turn["t"] <= failure["t"] <= turn["until"] + 5]
    return {
        "turns": turns,
        "sent": len(sends.intents),
        "failed": len(sends.failed),
        "lost": sum(key not in places for key in sends.acked),
        "copies": sum(len(found) - 1 for found in places.values()),
        "lag_at_end": lag,
        "digests": digests(cluster),
        "before_p99_ms": round(1000 * (verdict.percentile(sends.latencies(0, turns[0]["t"]), 0.99) or 0), 1) if turns else None,
    }


def digests(cluster):
    try:
        cluster.command("cluster", "--digest", timeout=90)
        return "equal"
    except RuntimeError as error:
        return str(error)


class SmallDisk:
    """An ext4 of its own in a file, mounted where a replica keeps its data. Needs the rights of a system administrator."""

    def __init__(self, image, mount_point, size):
        self.image, self.mount_point = image, mount_point
        image.parent.mkdir(parents=True, exist_ok=True)
        with open(image, "wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
        mount_point.mkdir(parents=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mount_point)], check=True, capture_output=True)
        # Removed when room is made again.
        self.ballast = mount_point / "ballast"
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size // 2)

    def unmount(self):
        subprocess.run(["umount", str(self.mount_point)], check=False, capture_output=True)
        self.image.unlink(missing_ok=True)


def filled(options):
    """A small file system under the leader is filled by what is sent; room is made, and the replica started again."""
    cluster = Cluster(settings={"segment_bytes": 16 << 20}, data=options.out and options.out / "small")
    small = None
    try:
        small = SmallDisk(cluster.folder / "small.ext4", cluster.folder / "data" / "broker-a-1", options.small_mib << 20)
    except (OSError, subprocess.CalledProcessError) as error:
        return {"skipped": f"no file system can be mounted here: {getattr(error, 'stderr', None) or error}"}
    try:
        with cluster:
            return fill_up(cluster, small, options)
    finally:
        small.unmount()


def fill_up(cluster, small, options):
    cluster.wait_healthy()
    # `ledgermq dev` restarts nobody, but its children's exit codes are not ours to see.
    victim = cluster.replicas[1]
    cluster.kill(victim)
    cluster.start(victim)
    cluster.wait_healthy()
    if cluster.leader().id != victim.id:
        cluster.command("leader", "transfer", "--broker-group", "broker-a", "--to", str(victim.id))
    others = [replica for replica in cluster.replicas.values() if replica.id != victim.id]
    workload = Workload(cluster, options.out / "small-load" if options.out else cluster.folder, fifo_senders=0, access_point=others[0].access_point)
    workload.start()
    time.sleep(3)
    turn = {"t": time.monotonic(), "fault": "file system full", "replica": victim.id, "leading": cluster.leader().id == victim.id}
    deadline = time.monotonic() + 180
    while victim.process.poll() is None and time.monotonic() < deadline:
        fill.produce(cluster, 0.3, "16KiB", 4, "fill")
        if "handed_over_s" not in turn and cluster.leader().id != victim.id:
            turn["handed_over_s"] = round(time.monotonic() - turn["t"], 2)
            turn["stopped_then"] = victim.process.poll() is not None
    try:
        turn["exit"] = victim.process.wait(options.stop_s)
        victim.alive = False
    except subprocess.TimeoutExpired:
        turn["exit"] = None
    turn["said"] = last_error(cluster.folder / "dev.log")
    turn["leader_then"] = leader_other_than(cluster, victim, 10)
    turn["doctor"] = doctor(cluster, options.doctor_s)
    turn["until"] = time.monotonic()
    small.ballast.unlink()
    if victim.process.poll() is not None:
        cluster.start(victim)
    cluster.wait_healthy(90)
    time.sleep(options.quiet_s)
    return ended(cluster, workload, [turn])


def judged(options, results):
    wrong = []
    for result in results:
        wrong += [f"{name} = {result[name]}" for name in ("failed", "lost", "copies") if result.get(name)]
        wrong += [f"digests {result['digests']}"] if result.get("digests", "equal") != "equal" else []
        for turn in result.get("turns", []):
            here = f"{turn['fault']} under replica {turn['replica']}{', which led' if turn['leading'] else ''}"
            stops = FAULTS.get(turn["fault"], {"stops": True})["stops"]
            if stops and not turn["exit"]:
                wrong.append(f"{here}: exit code {turn['exit']}")
            if stops and not turn["said"]:
                wrong.append(f"{here}: it said nothing")
            if stops and turn["leading"] and turn["leader_then"] in (None, turn["replica"]):
                wrong.append(f"{here}: no other leads")
            limit = options.stop_pause_s if stops else options.stall_pause_s
            if turn["pause_s"] > (limit if turn["leading"] else options.follower_pause_s):
                wrong.append(f"{here}: sends paused for {turn['pause_s']} s")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--faults", type=lambda text: text.split(","), default=",".join(FAULTS), help=f"of: {', '.join(FAULTS)}")
    parser.add_argument("--stall-ms", type=int, default=2000)
    parser.add_argument("--quiet-s", type=float, default=2.0)
    parser.add_argument("--stop-s", type=float, default=90.0, help="a replica whose disk failed has stopped by then")
    parser.add_argument("--doctor-s", type=float, default=8.0, help="ledgermq doctor is asked at once, and again after this")
    parser.add_argument("--stop-pause-s", type=float, default=1.0, help="the longest pause where the leader's disk fails or is full")
    parser.add_argument("--stall-pause-s", type=float, default=2.5, help="the longest pause where the leader's disk stalls")
    parser.add_argument("--follower-pause-s", type=float, default=0.5, help="the longest pause where a follower's disk does either")
    parser.add_argument("--small-mib", type=int, default=192, help="size of the small file system; 0 leaves that stage out")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    result = {"seed": options.seed, "told": told(options) if options.rounds else {}}
    result["small"] = filled(options) if options.small_mib else {}
    pauses = {}
    for turn in result["told"].get("turns", []):
        pauses.setdefault(f"{turn['fault']}, {'leader' if turn['leading'] else 'follower'}", []).append(turn["pause_s"])
    result["pause_s"] = {name: {"p50": verdict.percentile(found, 0.5), "max": max(found)} for name, found in sorted(pauses.items())}
    return verdict.conclude(result, judged(options, [result["told"], result["small"]]), options.json)


if __name__ == "__main__":
    sys.exit(main())
