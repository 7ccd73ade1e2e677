"""Counts the fdatasync calls of each replica while messages are sent one at a time. See ../README.md; run ./fsync-proof."""

import argparse
import json
import re
import subprocess
import sys
import time

import wire
from replicas import Cluster

SYNC = re.compile(r"\b(fdatasync|fsync|sync_file_range|msync)\(")


def trace(replica, folder):
    """strace on the calls that make data durable; it writes each call with its time."""
    out = folder / f"strace-{replica.id}.txt"
    command = ["strace", "-f", "-ttt", "-y", "-e", "trace=fdatasync,fsync,msync,sync_file_range", "-o", str(out), "-p", str(replica.pid)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process, out


def synced_at(out, folder_name):
    """Wall-clock times at which an fdatasync of a file of the log ended well."""
    times, begun = [], {}
    for line in out.read_text(errors="replace").splitlines():
        found = re.match(r"^(\d+)\s+(\d+\.\d+)\s+(.*)$", line)
        if not found:
            continue
        thread, at, call = found[1], float(found[2]), found[3]
        if call.startswith("fdatasync(") and "resumed" not in call:
            if "<unfinished" in call:
                begun[thread] = call
            elif call.rstrip().endswith("= 0"):
                times.append((at, call))
        elif "fdatasync resumed" in call and call.rstrip().endswith("= 0"):
            times.append((at, begun.pop(thread, "")))
    return [at for at, call in times if folder_name in call]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--log-folder", default="/", help="count only files whose path holds this text")
    parser.add_argument("--json", help="the figures, as JSON")
    options = parser.parse_args()
    with Cluster() as cluster:
        cluster.wait_healthy()
        leader = cluster.leader()
        topic = "fsync-proof"
        with wire.Door(leader.access_point) as door:
            for number in range(20):
                door.send(wire.message(topic, str(number).encode()))
            # Quiet: what other parts sync in the background must not be counted for an ack.
            time.sleep(1.0)
            tracers = {r.id: trace(r, cluster.folder) for r in cluster.replicas.values()}
            time.sleep(2.0)
            sends = []
            for number in range(options.messages):
                before = time.time()
                answer = door.send(wire.message(topic, b"x" * 1024))
                assert answer.status.code == wire.Code.OK, answer.status
                sends.append((before, time.time()))
            time.sleep(0.5)
        for process, _ in tracers.values():
            process.terminate()
            process.wait(10)
        synced = {replica: synced_at(out, options.log_folder) for replica, (_, out) in tracers.items()}
    # In each ack's own window (its send to its ack; one in flight, so windows do not overlap): which replicas synced.
    counts = [sum(any(since <= at <= until for at in times) for times in synced.values()) for since, until in sends]
    totals = {replica: sum(sends[0][0] <= at <= sends[-1][1] for at in times) for replica, times in synced.items()}
    result = {
        "messages": len(sends),
        "leader": leader.id,
        "fdatasync_calls": totals,
        "acks_with_a_sync_on_n_replicas": {n: counts.count(n) for n in range(len(synced) + 1)},
        "fewest_replicas_that_synced_inside_one_ack": min(counts),
        "ack_ms_p50_under_strace": round(sorted(b - a for a, b in sends)[len(sends) // 2] * 1000, 2),
        "holds": min(counts) >= 2,
    }
    print(json.dumps(result, indent=2))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=2)
    print("holds" if result["holds"] else "DOES NOT HOLD: an ack came without an fdatasync on two replicas")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
