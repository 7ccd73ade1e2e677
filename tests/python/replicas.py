"""A cluster of real processes: started by `ledgermq dev --processes`, killed, frozen and started again by the tests.

Only processes that this module started, or that its `ledgermq dev` printed, are ever signalled, each by its pid.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

REPLICA_LINE = re.compile(
    r"^replica (?P<broker_group>[^/\s]+)/(?P<id>\d+) pid (?P<pid>\d+) access-point (?P<access_point>\S+) config (?P<config>.+)$"
)


class Replica:
    """One broker process. `process` is set once it was started again by us; before, it is a child of `ledgermq dev`."""

    def __init__(self, broker_group, replica_id, pid, access_point, config):
        self.broker_group = broker_group
        self.id = replica_id
        self.pid = pid
        self.access_point = access_point
        self.config = config
        self.process = None
        self.alive = True
        # Of its broker group's membership.
        self.member = True

    def memory_kib(self):
        """(resident now, highest resident) in KiB, or None when the process is gone."""
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
            return int(fields["VmRSS"].split()[0]), int(fields["VmHWM"].split()[0])
        except (FileNotFoundError, KeyError, ProcessLookupError):
            return None

    def running(self):
        """Also true while only some of its threads are left: they still hold its sockets and files."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            return state not in ("Z", "X") or len(os.listdir(f"/proc/{self.pid}/task")) > 1
        except (FileNotFoundError, ProcessLookupError):
            return False


def free_ports(count):
    """Ports that no outgoing connection gets, so that a killed replica finds them free again."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = []
    while len(ports) < count:
        port = random.randrange(min(10_000, first_outgoing - 1_000), first_outgoing)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


class Cluster:
    """`with Cluster() as cluster:` gives three replicas; leaving ends what was started and nothing else."""

    def __init__(self, replicas=3, data=None, start_timeout=60.0, broker_command=None, dev_binary=None, settings=None):
        self.binary = os.environ["LEDGERMQ_BIN"]
        # What starts all of it first; another release in tests of upgrades.
        self.dev_binary = dev_binary or self.binary
        self.folder = Path(data) if data else Path(tempfile.mkdtemp(prefix="ledgermq-cluster."))
        self.keep_folder = data is not None
        self.replica_count = replicas
        self.start_timeout = start_timeout
        # What starts a replica again: the product, or a test build of it.
        self.broker_command = broker_command or [self.binary, "broker"]
        # Keys of broker.toml that every replica gets besides those that `ledgermq dev` writes.
        self.settings = settings or {}
        self.replicas = {}
        self.endpoints = ""
        self.dev = None
        self.lines = []

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = open(self.folder / "dev.log", "ab")
        command = [self.dev_binary, "dev", "--replicas", str(self.replica_count), "--processes", "--port", "0"]
        command += ["--data", str(self.folder / "data")]
        if self.settings:
            self._write_configurations()
        self.dev = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        ready = threading.Event()
        threading.Thread(target=self._read_dev, args=(ready,), daemon=True).start()
        deadline = time.monotonic() + self.start_timeout
        while not ready.wait(0.05):
            if self.dev.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"ledgermq dev did not get ready; it printed {self.lines}; see {self.folder / 'dev.log'}")
        if len(self.replicas) != self.replica_count:
            self.__exit__(None, None, None)
            raise RuntimeError(f"ledgermq dev printed {self.lines}")
        return self

    def _write_configurations(self):
        """The files that `ledgermq dev` would write, with settings of our own: it takes what is there."""
        folder = self.folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        ports = [f"127.0.0.1:{port}" for port in free_ports(2 * self.replica_count + 1)]
        name_server = ports.pop()
        for replica_id in range(1, self.replica_count + 1):
            config = folder / f"broker-a-{replica_id}.toml"
            if config.exists():
                continue
            keys = {
                "broker_group": "broker-a",
                "replica_id": replica_id,
                "listen": ports.pop(),
                "peer_listen": ports.pop(),
                "data_dir": str(folder / f"broker-a-{replica_id}"),
                "name_servers": [name_server],
                **self.settings,
            }
            # JSON's texts, numbers, truths and lists are TOML as well.
            config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items()))

    def _read_dev(self, ready):
        for line in self.dev.stdout:
            line = line.rstrip("\n")
            self.lines.append(line)
            found = REPLICA_LINE.match(line)
            if found:
                replica = Replica(found["broker_group"], int(found["id"]), int(found["pid"]), found["access_point"], found["config"])
                self.replicas[replica.id] = replica
            elif line.startswith("ready "):
                self.endpoints = line[len("ready "):].strip()
                ready.set()

    def __exit__(self, *_):
        for replica in self.replicas.values():
            if replica.running():
                self._signal(replica, signal.SIGCONT)
        if self.dev and self.dev.poll() is None:
            self.dev.terminate()
            try:
                self.dev.wait(45)
            except subprocess.TimeoutExpired:
                self.dev.kill()
                self.dev.wait()
        own = [replica.process for replica in self.replicas.values() if replica.process and replica.process.poll() is None]
        for process in own:
            process.terminate()
        for process in own:
            try:
                process.wait(35)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.close()
        if not self.keep_folder and not os.environ.get("LEDGERMQ_KEEP"):
            subprocess.run(["rm", "-rf", str(self.folder)], check=False)

    # What the tests do to it.

    def _signal(self, replica, number):
        os.kill(replica.pid, number)

    def kill(self, replica):
        """SIGKILL. Returns the time of it."""
        at = time.monotonic()
        self._signal(replica, signal.SIGKILL)
        replica.alive = False
        self.wait_gone(replica)
        return at

    def wait_gone(self, replica, timeout=10.0):
        """Waits for the end of a killed process, so that its port is free again."""
        deadline = time.monotonic() + timeout
        if replica.process:
            replica.process.wait(timeout)
        while replica.running():
            if time.monotonic() > deadline:
                raise RuntimeError(f"replica {replica.id} still runs after SIGKILL")
            time.sleep(0.005)

    def freeze(self, replica):
        at = time.monotonic()
        self._signal(replica, signal.SIGSTOP)
        return at

    def thaw(self, replica):
        self._signal(replica, signal.SIGCONT)

    def terminate(self, replica, timeout=35.0):
        """SIGTERM; waits for the end. Returns (seconds it took, exit code or None when it is not our child)."""
        at = time.monotonic()
        self._signal(replica, signal.SIGTERM)
        while replica.running() and not (replica.process and replica.process.poll() is not None):
            if time.monotonic() - at > timeout:
                raise RuntimeError(f"replica {replica.id} still runs {timeout} s after SIGTERM")
            time.sleep(0.02)
        replica.alive = False
        return time.monotonic() - at, replica.process.poll() if replica.process else None

    def start(self, replica, broker_command=None):
        """Starts a replica that died, from its configuration file; with another program, if one is given."""
        command = [*(broker_command or self.broker_command), "--config", replica.config]
        replica.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        replica.pid = replica.process.pid
        replica.alive = True

    def new_replica(self, replica_id):
        """Starts an empty replica, with the settings of the first one, and counts it; it is no member yet."""
        like = next(iter(self.replicas.values()))
        listen, peer_listen = (f"127.0.0.1:{port}" for port in free_ports(2))
        folder = Path(like.config).parent
        own = {
            "replica_id": str(replica_id),
            "listen": json.dumps(listen),
            "peer_listen": json.dumps(peer_listen),
            "data_dir": json.dumps(str(folder / f"{like.broker_group}-{replica_id}")),
        }
        lines = Path(like.config).read_text().splitlines()
        kept = [line for line in lines if line.split("=")[0].strip() not in own]
        config = folder / f"{like.broker_group}-{replica_id}.toml"
        config.write_text("\n".join([*(f"{name} = {value}" for name, value in own.items()), *kept]) + "\n")
        replica = Replica(like.broker_group, replica_id, 0, listen, str(config))
        self.start(replica)
        self.replicas[replica_id] = replica
        self.replica_count += 1
        self.endpoints += f";{listen}"
        return replica

    def forget(self, replica):
        """A replica that is no member any more and does not run."""
        del self.replicas[replica.id]
        self.replica_count -= 1
        self.endpoints = ";".join(left.access_point for left in self.replicas.values())

    @staticmethod
    def configured(replica, name):
        """What its configuration says."""
        found = dict(line.split("=", 1) for line in Path(replica.config).read_text().splitlines() if "=" in line)
        return json.loads(next(value for key, value in found.items() if key.strip() == name))

    @classmethod
    def addresses(cls, replica):
        """(peer address, client address) as its configuration has them."""
        return cls.configured(replica, "peer_listen"), cls.configured(replica, "listen")

    @classmethod
    def data_folder(cls, replica):
        return Path(cls.configured(replica, "data_dir"))

    # What it says about itself.

    def command(self, *arguments, timeout=20.0, check=True, endpoints=None):
        """Runs `ledgermq …` against the cluster and returns what it printed."""
        done = subprocess.run(
            [self.binary, *arguments, "--endpoints", endpoints or self.endpoints],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"ledgermq {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def state(self):
        """The first broker group of `ledgermq cluster --json`, or None while nobody answers."""
        try:
            groups = json.loads(self.command("cluster", "--json", timeout=8.0))["broker_groups"]
            return groups[0] if groups else None
        except (RuntimeError, subprocess.TimeoutExpired, ValueError):
            return None

    def leader(self, timeout=15.0):
        """The leading replica; waits for one."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            state = self.state()
            if state and state["leader"] is not None and self.replicas[int(state["leader"])].alive:
                return self.replicas[int(state["leader"])]
            time.sleep(0.1)
        raise RuntimeError(f"no leader within {timeout} s; last state {state}")

    def wait_healthy(self, timeout=60.0):
        """Waits until one leads and all replicas are healthy and near it. Returns the seconds it took."""
        at = time.monotonic()
        while time.monotonic() - at < timeout:
            state = self.state()
            if state and state["leader"] is not None and len(state["replicas"]) == self.replica_count:
                last = max(replica["last_index"] for replica in state["replicas"])
                near = all(replica["applied_index"] + 2000 >= last for replica in state["replicas"])
                if near and all(replica["healthy"] for replica in state["replicas"]):
                    return time.monotonic() - at
            time.sleep(0.2)
        raise RuntimeError(f"not healthy within {timeout} s: {state}")
