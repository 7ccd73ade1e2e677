"""A run's load as child processes: eight sending threads, one simple and one push consumer; and its histories on disk."""

import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import wire


class Client:
    """One `load.py` process."""

    def __init__(self, role, access_point, history, **options):
        self.role = role
        script = str(Path(__file__).with_name("load.py"))
        command = [sys.executable, script, role, "--access-point", access_point, "--history", str(history)]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self.errors = open(Path(history).with_suffix(".stderr"), "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.ready = threading.Event()
        self.last_line = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.last_line = line.strip()
            if self.last_line == "ready":
                self.ready.set()

    def wait_ready(self, timeout=30.0):
        if not self.ready.wait(timeout):
            raise RuntimeError(f"the {self.role} client did not start within {timeout} s; see {self.errors.name}")

    def stop(self, timeout=45.0):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()
        return self.last_line


class Workload:
    """Topics, consumer groups and clients of one run. FIFO senders are spread so that each replica is the address of one."""

    def __init__(self, cluster, folder, senders=8, fifo_senders=3, producers=1, pace_ms=25.0, size=256, consumers=True, access_point=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cluster = cluster
        self.options = dict(senders=senders, producers=producers, pace_ms=pace_ms, size=size)
        self.with_consumers = consumers
        run = uuid.uuid4().hex[:8]
        self.normal_topic, self.fifo_topic = f"load-normal-{run}", f"load-fifo-{run}"
        self.simple_group, self.push_group = f"load-simple-{run}", f"load-push-{run}"
        self.addresses = {}
        first = access_point or next(iter(cluster.replicas.values())).access_point
        self.access_point = first
        admin = wire.Administration(first)
        admin.create_topic(self.normal_topic, "normal")
        admin.create_topic(self.fifo_topic, "fifo")
        admin.create_consumer_group(self.simple_group)
        admin.create_consumer_group(self.push_group, fifo=True)
        admin.close()
        self._choose_message_groups(fifo_senders)
        self.clients = {}

    def _choose_message_groups(self, count):
        if count == 0:
            return
        with wire.Door(self.access_point) as door:
            queues = wire.route(door, self.fifo_topic).message_queues
        all_addresses = sorted({wire.python_queue_address(queues, f"group-{n}") for n in range(200)})
        self.addresses = {}
        for number in range(200):
            if len(self.addresses) == count:
                break
            group = f"group-{number}"
            address = wire.python_queue_address(queues, group)
            fewest = min(list(self.addresses.values()).count(a) for a in all_addresses)
            if list(self.addresses.values()).count(address) == fewest:
                self.addresses[group] = address

    def start(self):
        if self.with_consumers:
            common = dict(access_point=self.access_point)
            self.clients["simple"] = Client(
                "simple", history=self.folder / "simple.jsonl", topic=self.normal_topic, consumer_group=self.simple_group, **common
            )
            self.clients["push"] = Client(
                "push", history=self.folder / "push.jsonl", topic=self.fifo_topic, consumer_group=self.push_group, **common
            )
        self.clients["send"] = Client(
            "send",
            access_point=self.access_point,
            history=self.folder / "send.jsonl",
            normal_topic=self.normal_topic,
            fifo_topic=self.fifo_topic,
            message_groups=",".join(self.addresses),
            **self.options,
        )
        for client in self.clients.values():
            client.wait_ready()

    def stop_sending(self):
        return self.clients["send"].stop()

    def wait_consumed(self, timeout=120.0):
        """Waits until both consumer groups have nothing left. Returns the lag that remained."""
        deadline = time.monotonic() + timeout
        lag = None
        while time.monotonic() < deadline:
            try:
                admin = wire.Administration(self.access_point)
                lag = {"simple": admin.lag(self.simple_group), "push": admin.lag(self.push_group)}
                admin.close()
                if not any(lag.values()):
                    return lag
            except wire.grpc.RpcError:
                pass
            time.sleep(0.5)
        return lag

    def stop(self):
        for client in self.clients.values():
            client.stop()
