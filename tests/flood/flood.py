"""Hostile clients against three replicas: random bytes, half-open connections, 130 MiB requests. See ../README.md; run ./run.

The brokers must stay up, keep serving an ordinary client, and stay under a bound of memory.
"""

import argparse
import json
import os
import random
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import verdict
import wire
from replicas import Cluster

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def connect(access_point, timeout=5.0):
    host, port = access_point.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=timeout)


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def random_bytes(access_points, chance, connections):
    """Garbage: from the first byte, behind a good preface, as HTTP/2 frames, as a TLS record. Gives how many broke early."""

    def one(number):
        local = random.Random(chance.random())
        opening = [
            b"",
            PREFACE,
            PREFACE + SETTINGS,
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            PREFACE[:10],
        ][number % 7]
        try:
            with connect(access_points[number % len(access_points)]) as connection:
                connection.settimeout(2.0)
                connection.sendall(opening)
                for _ in range(local.randrange(1, 40)):
                    noise = local.randbytes(local.randrange(1, 32768))
                    if number % 3 == 0 and opening.startswith(PREFACE):
                        noise = frame(local.randrange(12), local.randrange(256), local.randrange(1 << 31), noise[:16384])
                    connection.sendall(noise)
            return 0
        except OSError:
            return 1

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(one, range(connections)))


def half_open(access_points, count, hold_s):
    """Connections that stop in the middle: before the preface, in it, after it, inside a HEADERS frame, inside a body."""
    connections, refused = [], 0
    openings = [b"", b"P", PREFACE[:12], PREFACE + SETTINGS, PREFACE + SETTINGS + b"\x00\x40\x00\x01\x04\x00\x00\x00\x01abc", b"\x16\x03\x01"]
    for number in range(count):
        try:
            connection = connect(access_points[number % len(access_points)])
            connection.sendall(openings[number % len(openings)])
            connections.append(connection)
        except OSError:
            refused += 1
    time.sleep(hold_s)
    for connection in connections:
        connection.close()
    return len(connections), refused


def huge_requests(access_points, size, count, parallel):
    """SendMessage requests of `size` bytes. Gives how often each answer came."""

    def one(number):
        body = bytes(size - 1024)
        with wire.Door(access_points[number % len(access_points)]) as door:
            try:
                answer = door.send(wire.message("flood", body), timeout=60)
                return wire.Code.Name(answer.status.code)
            except grpc.RpcError as error:
                return error.code().name

    answers = {}
    with ThreadPoolExecutor(parallel) as pool:
        for answer in pool.map(one, range(count)):
            answers[answer] = answers.get(answer, 0) + 1
    return answers


class Ordinary(threading.Thread):
    """A well-behaved client that goes on all the time: it must not notice."""

    def __init__(self, access_point):
        super().__init__(daemon=True)
        self.access_point, self.stop = access_point, threading.Event()
        self.latencies, self.failures = [], []

    def run(self):
        with wire.Door(self.access_point) as door:
            while not self.stop.wait(0.05):
                at = time.monotonic()
                try:
                    answer = door.send(wire.message("ordinary", b"x" * 200), timeout=5)
                    if answer.status.code != wire.Code.OK:
                        self.failures.append(f"{answer.status.code} {answer.status.message}")
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code().name} {error.details()}"[:160])
                self.latencies.append(time.monotonic() - at)


class Memory(threading.Thread):
    """The highest resident size of each replica that was seen, in MB, by stage."""

    def __init__(self, replicas):
        super().__init__(daemon=True)
        self.replicas, self.stage, self.highest, self.stop = replicas, "idle", {}, threading.Event()

    def run(self):
        while not self.stop.wait(0.05):
            for replica in self.replicas:
                memory = replica.memory_kib()
                if memory:
                    kept = self.highest.setdefault(self.stage, {})
                    kept[replica.id] = max(kept.get(replica.id, 0), round(memory[0] * 1024 / 1e6, 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=1000, help="half-open connections; also how many send noise")
    parser.add_argument("--hold-s", type=float, default=20.0)
    parser.add_argument("--mib", type=int, default=130)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--limit-mb", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with Cluster() as cluster:
        cluster.wait_healthy()
        replicas = list(cluster.replicas.values())
        access_points = [replica.access_point for replica in replicas]
        pids = [replica.pid for replica in replicas]
        ordinary, memory = Ordinary(access_points[0]), Memory(replicas)
        ordinary.start()
        memory.start()
        time.sleep(2)
        result = {"seed": options.seed}
        stages = [
            ("random bytes", lambda: random_bytes(access_points, chance, options.connections)),
            ("half-open connections", lambda: half_open(access_points, options.connections, options.hold_s)),
            ("half-open connections at one replica", lambda: half_open(access_points[:1], options.connections, 5)),
            ("huge requests, one at a time", lambda: huge_requests(access_points, options.mib << 20, 6, 1)),
            ("huge requests, six at a time", lambda: huge_requests(access_points, options.mib << 20, options.requests, 6)),
            ("largest bodies, sixteen at a time", lambda: huge_requests(access_points, 4 << 20, 300, 16)),
        ]
        for name, stage in stages:
            memory.stage = name
            failures, at = len(ordinary.failures), time.monotonic()
            result[name] = {"answer": stage(), "seconds": round(time.monotonic() - at, 1), "ordinary_failures": len(ordinary.failures) - failures}
            time.sleep(1)
            print(f"{name}: {result[name]}, resident MB {memory.highest.get(name)}", flush=True)
        ordinary.stop.set()
        ordinary.join(10)
        alive = [replica.running() and replica.pid == pid for replica, pid in zip(replicas, pids)]
        final = {replica.id: replica.memory_kib() for replica in replicas}
        memory.stop.set()
        try:
            cluster.wait_healthy(20)
            healthy = True
        except RuntimeError:
            healthy = False
    result.update(
        resident_mb_by_stage=memory.highest,
        resident_mb_highest={i: m and round(m[1] * 1024 / 1e6, 1) for i, m in final.items()},
        resident_mb_at_end={i: m and round(m[0] * 1024 / 1e6, 1) for i, m in final.items()},
        alive=all(alive),
        healthy=healthy,
        ordinary_sends=len(ordinary.latencies),
        ordinary_failures=ordinary.failures[:5],
        ordinary_latency_s=verdict.spread(ordinary.latencies),
    )
    wrong = []
    if not all(alive) or not healthy:
        wrong.append("a broker went down")
    wrong += [f"replica {i} had {mb} MB" for i, mb in result["resident_mb_highest"].items() if mb is None or mb >= options.limit_mb]
    # The last stage is overload by good requests: refusing is right there, so only its memory is judged.
    hostile = sum(result[name]["ordinary_failures"] for name, _ in stages[:-1])
    if hostile:
        wrong.append(f"{hostile} sends of an ordinary client failed")
    result.update(holds=not wrong, wrong=wrong)
    print(json.dumps(result, indent=2))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=2)
    print("all holds" if not wrong else "DOES NOT HOLD: " + "; ".join(wrong))
    sys.stdout.flush()
    os._exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
