"""How long a replica takes to serve again after SIGKILL, with ever more log. See ../README.md; run ./large.

One replica, so that its own restart is all that a client waits for. At each size it is killed several times under load, and
started from a cold page cache (its files' pages are dropped) and from a warm one.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import disk
import fill
import verdict
import wire
from replicas import Cluster


class Load:
    """Small messages at full speed, by the benchmark in a process of its own, until the replica dies."""

    def __init__(self, cluster, options):
        command = [cluster.binary, "bench", "produce", "--unary", "--size", str(options.body), "--in-flight", str(options.in_flight)]
        command += ["--duration", "600s", "--topic", "load", "--endpoints", cluster.endpoints]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait()


def first_ack(access_point, since, timeout=120.0):
    """Seconds from `since` until a message was acknowledged."""
    body = wire.message("first-ack")
    while time.monotonic() - since < timeout:
        # A fresh channel each time: one that failed waits longer and longer before it connects again.
        with wire.Door(access_point) as door:
            try:
                if door.send(body, timeout=3).status.code == wire.Code.OK:
                    return time.monotonic() - since
            except wire.grpc.RpcError:
                pass
        time.sleep(0.01)
    raise RuntimeError(f"no message was acknowledged within {timeout} s")


def restart(cluster, options, cold):
    """One kill under load, one start. What came since the last flush of the state is replayed."""
    replica = next(iter(cluster.replicas.values()))
    folder = cluster.data_folder(replica)
    load = Load(cluster, options)
    time.sleep(options.load_s)
    cluster.kill(replica)
    load.stop()
    cached = disk.drop_cache(folder) if cold else disk.cached(folder)
    at = time.monotonic()
    cluster.start(replica)
    serving = first_ack(replica.access_point, at)
    read = disk.read_bytes(replica.pid)
    return {
        "cold": cold,
        "serving_s": round(serving, 3),
        "read_mib": None if read is None else round(read / (1 << 20), 1),
        "cached_before_mib": None if cached is None else round(cached / (1 << 20), 1),
        "log_bytes": fill.log_bytes(cluster, replica),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=lambda text: [disk.size(size) for size in text.split(",")], default="10GiB,50GiB", help="one after the other, by the same log")
    parser.add_argument("--segment", type=disk.size, default=disk.size("1GiB"))
    parser.add_argument("--restarts", type=int, default=5, help="cold ones at each size, and as many warm ones")
    parser.add_argument("--load-s", type=float, default=8.0, help="load before each kill")
    parser.add_argument("--body", type=int, default=1024, help="bytes of a message of that load")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--fill-body", default="256KiB")
    parser.add_argument("--fill-in-flight", type=int, default=24)
    parser.add_argument("--limit-s", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = []
    with Cluster(replicas=1, settings={"segment_bytes": options.segment}) as cluster:
        cluster.wait_healthy()
        speed = disk.speed(cluster.folder, 1 << 30)
        for wanted in options.sizes:
            filled = fill.until(cluster, wanted, options.fill_body, options.fill_in_flight)
            turns = [restart(cluster, options, cold) for _ in range(options.restarts) for cold in (True, False)]
            sizes.append({"log_bytes": wanted, "filled": filled, "restarts": turns})
            for cold in (True, False):
                sizes[-1]["cold_s" if cold else "warm_s"] = verdict.spread([t["serving_s"] for t in turns if t["cold"] == cold])
            print(json.dumps({name: value for name, value in sizes[-1].items() if name != "restarts"}), flush=True)
    slowest = {size["log_bytes"]: max(size["cold_s"]["max"], size["warm_s"]["max"]) for size in sizes}
    smallest, largest = sizes[0], sizes[-1]
    growth = round(largest["cold_s"]["p50"] / smallest["cold_s"]["p50"], 3)
    result = {"disk_mb_s": speed, "sizes": sizes, "slowest_s": slowest, "growth_of_the_median": growth}
    wrong = [f"serving only after {s} s with {size >> 20} MiB" for size, s in slowest.items() if s > options.limit_s]
    # Within what a busy machine adds.
    if len(sizes) > 1 and largest["cold_s"]["p50"] > 1.5 * smallest["cold_s"]["p50"] + 0.2:
        wrong.append(f"it grows with the log: {growth} times the median of the smallest")
    return verdict.conclude(result, wrong, options.json)


if __name__ == "__main__":
    sys.exit(main())
