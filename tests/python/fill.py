"""Fills a cluster's log to a size, fast: large bodies by `ledgermq bench produce`."""

import subprocess
import time

import disk

# One run of the benchmark takes at most so long.
SLICE_S = 10.0


def log_bytes(cluster, replica):
    """What the log's segments of a replica take on the disk."""
    return disk.allocated(cluster.data_folder(replica) / "replica" / "log", "*.segment")


def until(cluster, wanted, body="256KiB", in_flight=24, topic="fill", timeout=3600.0):
    """Produces until the longest log among the living has `wanted` bytes. Returns its bytes and how fast they came."""
    began, first = time.monotonic(), longest(cluster)
    reached, slice_s = first, 1.0
    while reached < wanted:
        if time.monotonic() - began > timeout:
            raise RuntimeError(f"only {reached} of {wanted} bytes within {timeout} s")
        produce(cluster, slice_s, body, in_flight, topic)
        reached = longest(cluster)
        bytes_per_s = max(1.0, (reached - first) / (time.monotonic() - began))
        slice_s = min(SLICE_S, max(0.2, (wanted - reached) / bytes_per_s))
    seconds = time.monotonic() - began
    return {"bytes": reached, "seconds": round(seconds, 1), "mb_s": round((reached - first) / 1e6 / seconds, 1)}


def longest(cluster):
    return max(log_bytes(cluster, replica) for replica in cluster.replicas.values() if replica.alive)


def produce(cluster, seconds, body, in_flight, topic):
    """One run of the benchmark against the living replicas."""
    endpoints = ";".join(replica.access_point for replica in cluster.replicas.values() if replica.alive)
    command = [cluster.binary, "bench", "produce", "--unary", "--size", str(disk.size(body)), "--in-flight", str(in_flight)]
    command += ["--duration", f"{int(seconds * 1000)}ms", "--topic", topic, "--endpoints", endpoints]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds * 3 + 60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
