"""Writes the data folder of one replica of the previous release, and what must be found in it. See ../README.md.

The replica is killed, so that its newest entries are in the log alone: opening the folder reads both what the release
stored and what it logged.
"""

import argparse
import gzip
import json
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import wire
from replicas import free_ports

BROKER_GROUP = "broker-a"
# How long the receives of `again` hold their messages; the test goes on later than that.
HELD_SHORTLY_S = 10.0


def command(binary, *arguments):
    done = subprocess.run([binary, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"ledgermq {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def start(binary, folder):
    """One replica, alone in its broker group. Relative paths: none of this machine gets into the folder."""
    listen, peer_listen = (f"127.0.0.1:{port}" for port in free_ports(2))
    settings = {
        "broker_group": BROKER_GROUP,
        "replica_id": 1,
        "listen": listen,
        "peer_listen": peer_listen,
        "data_dir": "data",
        "name_servers": [],
        "segment_bytes": 1 << 20,
        "memtable_bytes": 4 << 20,
    }
    (folder / "broker.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    log = open(folder / "broker.log", "ab")
    process = subprocess.Popen([binary, "broker", "--config", "broker.toml"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    member = f"1={peer_listen}={listen}"
    for _ in range(100):
        time.sleep(0.2)
        try:
            command(binary, "bootstrap", "--endpoints", listen, "--broker-group", BROKER_GROUP, "--member", member)
            break
        except RuntimeError:
            continue
    for _ in range(100):
        groups = json.loads(command(binary, "cluster", "--json", "--endpoints", listen))["broker_groups"]
        if groups[0]["leader"] == 1 and groups[0]["replicas"][0]["healthy"]:
            return process, listen
        time.sleep(0.1)
    raise RuntimeError(f"the replica leads nobody; see {folder / 'broker.log'}")


def text(message_id, times):
    return (f"body of {message_id}. " * times).encode()


class Work:
    def __init__(self, access_point):
        self.access_point = access_point
        self.door = wire.Door(access_point, client_id="previous@1")
        self.admin = wire.Administration(access_point)
        self.times = {}
        self.sent = []

    def send(self, topic, message_id, times=20, **system):
        self.times[message_id] = times
        answer = self.door.send(wire.message(topic, text(message_id, times), message_id, **system))
        assert answer.status.code == wire.Code.OK, answer
        self.sent.append({"topic": topic, "id": message_id, "offset": answer.entries[0].offset})

    def receive(self, topic, group, batch, invisible_s, **options):
        code, messages = self.door.receive(topic, group, batch=batch, invisible_s=invisible_s, **options)
        assert code == wire.Code.OK, (topic, group, code)
        return messages

    def held(self, topic, group, messages):
        return [
            {
                "topic": topic,
                "group": group,
                "handle": message.system_properties.receipt_handle,
                "id": message.system_properties.message_id,
                "attempt": message.system_properties.delivery_attempt,
            }
            for message in messages
        ]

    def create(self):
        for name, kind in [("plain", "normal"), ("ordered", "fifo"), ("mixed", "mixed"), ("gone", "normal")]:
            self.admin.create_topic(name, kind, queues=4)
        self.admin.stub.DeleteTopic(self.admin.messages.DeleteTopicRequest(name="gone"), timeout=10)
        for name, fifo, attempts in [("worker", False, 0), ("again", False, 0), ("dying", False, 2), ("ordered", True, 0)]:
            self.admin.create_consumer_group(name, fifo=fifo, max_attempts=attempts)

    def send_all(self, name, count):
        fifo = wire.definition.MessageType.FIFO
        for n in range(count):
            tag = {"tag": ["paid", "open"][n % 2]} if n % 3 else {}
            self.send("plain", f"{name}-plain-{n}", times=1 + 29 * n % 1200, keys=[f"key-{n}"], properties={"n": str(n)}, **tag)
            self.send("ordered", f"{name}-ordered-{n}", message_type=fifo, message_group=f"group-{n % 3}")
            if n % 4 == 0:
                self.send("mixed", f"{name}-mixed-{n}")


def stored(work, topic):
    messages = [
        {
            "topic": topic,
            "queue": message.system_properties.queue_id,
            "offset": message.system_properties.queue_offset,
            "id": message.system_properties.message_id,
            "tag": message.system_properties.tag,
            "message_group": message.system_properties.message_group,
            "times": work.times[message.system_properties.message_id],
        }
        for message in wire.read_everything([work.access_point], topic, threads=1)
    ]
    return sorted(messages, key=lambda message: (message["queue"], message["offset"]))


def make(binary, folder, commit):
    process, access_point = start(binary, folder)
    try:
        work = Work(access_point)
        work.create()
        work.send_all("first", 120)
        work.receive("mixed", "dying", 2, HELD_SHORTLY_S)
        held = work.held("plain", "worker", work.receive("plain", "worker", 20, 36000.0))
        acked = work.receive("plain", "worker", 20, 36000.0)
        work.door.ack("plain", "worker", *acked)
        held += work.held("ordered", "ordered", work.receive("ordered", "ordered", 5, 36000.0))
        for _ in range(2):
            time.sleep(HELD_SHORTLY_S + 0.5)
            work.door.receive("mixed", "dying", batch=2, invisible_s=HELD_SHORTLY_S)
        while not list((folder / "data" / "state").glob("*.sst")):
            time.sleep(0.5)
        # From here on it is in the log alone.
        messages = [message for topic in ("plain", "ordered", "mixed", "%DLQ%dying") for message in stored(work, topic)]
        assert any(message["topic"].startswith("%DLQ%") for message in messages)
        work.sent.clear()
        work.send_all("last", 8)
        held += work.held("plain", "worker", work.receive("plain", "worker", 3, 36000.0))
        expired = work.held("mixed", "again", work.receive("mixed", "again", 4, HELD_SHORTLY_S))
        known = {(message["topic"], message["id"]) for message in messages}
        for topic in ("plain", "ordered", "mixed"):
            messages += [message for message in stored(work, topic) if (topic, message["id"]) not in known]
        lags = {group: work.admin.lag(group) for group in ("worker", "again", "ordered", "dying")}
        digest = json.loads(command(binary, "cluster", "--digest", "--json", "--endpoints", access_point))["broker_groups"][0]
        ended_ms = int(time.time() * 1000)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return {
        "commit": commit,
        "ended_ms": ended_ms,
        "client": work.door.client_id,
        "digest": {"index": digest["index"], "digest": digest["replicas"][0]["digest"]},
        "messages": messages,
        "sent_last": [{**sent, "times": work.times[sent["id"]]} for sent in work.sent],
        "held": held,
        "expired": expired,
        "lags": lags,
    }


def pack(folder, archive):
    """The folder without RocksDB's own log, which speaks of this machine, as the same bytes each time."""

    def plain(member):
        if Path(member.name).name.startswith("LOG"):
            return None
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with open(archive, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(folder / "data", "data", filter=plain)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--previous", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "data")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ledgermq-previous.") as folder:
        found = make(options.previous, Path(folder), options.commit)
        pack(Path(folder), options.out / "previous.tar.gz")
    (options.out / "previous.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(found['messages'])} messages, {len(found['held'])} held; {(options.out / 'previous.tar.gz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
