"""Restarts under load: `rolling` one by one with SIGTERM; `all-at-once` with SIGKILL. See ../README.md."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import verdict
import wire
from replicas import Cluster
from workload import Workload


def rolling(cluster, options):
    """Every replica ended with SIGTERM and started again, in turn. Gives the faults as (time, replica, leading, exit, seconds)."""
    done = []
    for _ in range(options.rounds):
        for replica in list(cluster.replicas.values()):
            leading = cluster.leader().id == replica.id
            at = time.monotonic()
            took, code = cluster.terminate(replica)
            cluster.start(replica)
            cluster.wait_healthy(90)
            done.append({"t": at, "replica": replica.id, "fault": "SIGTERM", "leading": leading, "exit": code, "seconds": round(took, 3)})
            time.sleep(options.quiet_s)
    return done


def all_at_once(cluster, options):
    done = []
    for _ in range(options.rounds):
        time.sleep(options.quiet_s)
        at = time.monotonic()
        for replica in cluster.replicas.values():
            os.kill(replica.pid, signal.SIGKILL)
        for replica in cluster.replicas.values():
            cluster.wait_gone(replica)
            cluster.start(replica)
        done.append({"t": at, "fault": "SIGKILL of all", "serving_s": first_ack(cluster, at)})
        cluster.wait_healthy(90)
    return done


def first_ack(cluster, since):
    """Seconds from `since` until some replica took a message."""
    doors = [wire.Door(replica.access_point) for replica in cluster.replicas.values()]
    try:
        while time.monotonic() - since < 60:
            for door in doors:
                try:
                    if door.send(wire.message("first-ack"), timeout=3).status.code == wire.Code.OK:
                        return time.monotonic() - since
                except wire.grpc.RpcError:
                    # A fresh channel: the old one waits longer and longer before it connects again.
                    place = doors.index(door)
                    doors[place] = wire.Door(door.access_point)
                    door.close()
            time.sleep(0.02)
        return float("inf")
    finally:
        for door in doors:
            door.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["rolling", "all-at-once"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quiet-s", type=float, default=2.0)
    parser.add_argument("--limit-s", type=float, default=5.0, help="all-at-once: serving again within this")
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    with Cluster(data=options.out and options.out / "cluster") as cluster:
        cluster.wait_healthy()
        workload = Workload(cluster, options.out or cluster.folder, producers=options.producers)
        workload.start()
        time.sleep(3)
        faults = rolling(cluster, options) if options.kind == "rolling" else all_at_once(cluster, options)
        time.sleep(1)
        ended = time.monotonic()
        workload.stop_sending()
        lag = workload.wait_consumed()
        workload.stop()
        sends = verdict.Sends(workload.folder / "send.jsonl")
        access_points = [replica.access_point for replica in cluster.replicas.values()]
        stored = [m for t in (workload.normal_topic, workload.fifo_topic) for m in wire.read_everything(access_points, t)]
    places = verdict.copies(stored)
    pauses = verdict.pauses(sends.ack_times(), faults, ended)
    failures = list(sends.failed.values())
    fifo_failed = [f for f in failures if sends.intents[f["key"]].get("message_group")]
    result = {
        "kind": options.kind,
        "rounds": options.rounds,
        "sent": len(sends.intents),
        "acked": len(sends.acked),
        "failed_normal": len(failures) - len(fifo_failed),
        "failed_fifo": len(fifo_failed),
        "errors": sorted({f["error"][:160] for f in failures})[:6],
        "lost": sum(key not in places for key in sends.acked),
        "copies": sum(len(p) - 1 for p in places.values()),
        "lag_at_end": lag,
        "pause_s": verdict.spread([pause for _, pause in pauses]),
    }
    wrong = [f"{name} = {result[name]}" for name in ("lost", "copies") if result[name]]
    if options.kind == "rolling":
        result["pause_leader_s"] = verdict.spread([pause for fault, pause in pauses if fault["leading"]])
        result["pause_follower_s"] = verdict.spread([pause for fault, pause in pauses if not fault["leading"]])
        result["shutdown_s"] = verdict.spread([fault["seconds"] for fault in faults])
        # The first end of each replica is of a child of `ledgermq dev`: its exit code is not ours to see.
        result["exit_codes"] = sorted({str(fault["exit"]) for fault in faults})
        wrong += [f"failed_normal = {result['failed_normal']}"] if result["failed_normal"] else []
        wrong += [f"an exit code of {code}" for code in result["exit_codes"] if code not in ("0", "None")]
    else:
        result["serving_again_s"] = verdict.spread([fault["serving_s"] for fault in faults])
        if result["serving_again_s"]["max"] > options.limit_s:
            wrong.append(f"serving again only after {result['serving_again_s']['max']} s")
    return verdict.conclude(result, wrong, options.json)


if __name__ == "__main__":
    sys.exit(main())
