"""A mixed-version cluster: three replicas of the previous release become this one, one by one, under load. See ../README.md.

Each round is a cluster of its own:

  all previous ─▶ one new ─▶ two new ─▶ one of them back ─▶ two new ─▶ all new ─▶ the level rises ─▶ each restarted again
                  └──────────── level 1: equal digests, the way back is open ────┘
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import verdict
import wire
from replicas import Cluster
from workload import Workload


class Upgrade:
    def __init__(self, cluster, options):
        self.cluster = cluster
        self.quiet_s = options.quiet_s
        self.previous, self.new = [options.previous, "broker"], [cluster.binary, "broker"]
        self.faults, self.wrong = [], []

    def expect(self, holds, what):
        if not holds:
            self.wrong.append(what)

    def change(self, replica, broker_command, what):
        """Ends a replica with SIGTERM and starts it with this program."""
        leading = self.cluster.leader().id == replica.id
        at = time.monotonic()
        took, code = self.cluster.terminate(replica)
        self.cluster.start(replica, broker_command)
        self.cluster.wait_healthy(90)
        self.faults.append({"t": at, "replica": replica.id, "fault": what, "leading": leading, "exit": code, "seconds": round(took, 3)})
        time.sleep(self.quiet_s)

    def level(self):
        """The level of the state as the leader tells it; one of the previous release tells none, and knows one."""
        state = self.cluster.state()
        return (state or {}).get("format_level") or 1

    def equal(self, when):
        done = subprocess.run(
            [self.cluster.binary, "cluster", "--digest", "--json", "--endpoints", self.cluster.endpoints],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.expect(done.returncode == 0, f"digests {when}: exit code {done.returncode}, {done.stdout.strip()} {done.stderr.strip()}")

    def run(self):
        """Gives the level in the end."""
        first, second, third = self.cluster.replicas.values()
        self.change(first, self.new, "upgrade")
        self.equal("with one new replica")
        self.change(second, self.new, "upgrade")
        self.equal("with two new replicas")
        self.expect(self.level() == 1, "the level rose while one replica runs the previous release")
        self.change(first, self.previous, "downgrade")
        self.equal("after a downgrade")
        self.change(first, self.new, "upgrade")
        self.expect(self.level() == 1, "the level rose while one replica runs the previous release")
        self.change(third, self.new, "upgrade")
        level = self.raised()
        self.equal("with new replicas alone")
        for replica in (first, second, third):
            self.change(replica, self.new, "restart")
        self.equal("after a further restart of each")
        self.expect(self.level() == level, "the level fell")
        return level

    def raised(self, timeout=20.0):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            level = self.level()
            if level > 1:
                return level
            time.sleep(0.1)
        self.wrong.append(f"the level did not rise within {timeout} s: {self.cluster.state()}")
        return 1

    def no_way_back(self):
        """The previous release on a folder whose level was raised: it must say why and stop. Runs without load."""
        replica = next(iter(self.cluster.replicas.values()))
        self.cluster.terminate(replica)
        command = [*self.previous, "--config", replica.config]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
            # The first release reads all of the state before it looks at the level, and names the pair that it does not know.
            named = any(word in done.stderr for word in ("format level", "has version", "unknown kind"))
            self.expect(done.returncode != 0 and named, f"the previous release ended with {done.returncode}: {done.stderr[-300:]}")
        except subprocess.TimeoutExpired:
            self.wrong.append("the previous release ran on a state beyond its level")
        self.cluster.start(replica, self.new)
        self.cluster.wait_healthy(90)


def one_round(number, options, folder):
    """What one cluster showed: figures, faults with their pauses, and what was wrong."""
    with Cluster(data=folder / f"round-{number}", dev_binary=options.previous, start_timeout=120.0) as cluster:
        cluster.wait_healthy()
        workload = Workload(cluster, folder / f"round-{number}" / "histories", producers=options.producers)
        upgrade = Upgrade(cluster, options)
        workload.start()
        time.sleep(3)
        level = upgrade.run()
        time.sleep(1)
        ended = time.monotonic()
        workload.stop_sending()
        lag = workload.wait_consumed()
        workload.stop()
        sends = verdict.Sends(workload.folder / "send.jsonl")
        access_points = [replica.access_point for replica in cluster.replicas.values()]
        stored = [m for t in (workload.normal_topic, workload.fifo_topic) for m in wire.read_everything(access_points, t)]
        if number == 1:
            upgrade.no_way_back()
    places = verdict.copies(stored)
    failures = list(sends.failed.values())
    fifo_failed = [failure for failure in failures if sends.intents[failure["key"]].get("message_group")]
    figures = {
        "sent": len(sends.intents),
        "acked": len(sends.acked),
        "failed_normal": len(failures) - len(fifo_failed),
        "failed_fifo": len(fifo_failed),
        "errors": sorted({failure["error"][:160] for failure in failures})[:6],
        "lost": sum(key not in places for key in sends.acked),
        "copies": sum(len(found) - 1 for found in places.values()),
        "lag_at_end": sum(lag.values()) if lag else None,
        "level": level,
    }
    return figures, verdict.pauses(sends.ack_times(), upgrade.faults, ended), upgrade.wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--previous", required=True, help="the previous release's ledgermq")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quiet-s", type=float, default=2.0)
    parser.add_argument("--limit-ms", type=float, default=200.0, help="a pause may last so long")
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="folder for histories and logs; kept")
    options = parser.parse_args()
    temporary = None if options.out else tempfile.TemporaryDirectory(prefix="ledgermq-upgrade.")
    folder = options.out or Path(temporary.name)
    total, pauses, wrong = {}, [], []
    for number in range(1, options.rounds + 1):
        figures, found, complaints = one_round(number, options, folder)
        print(json.dumps({"round": number, **figures, "pauses_s": [round(pause, 3) for _, pause in found]}), flush=True)
        pauses += found
        wrong += [f"round {number}: {complaint}" for complaint in complaints]
        for name in ("sent", "acked", "failed_normal", "failed_fifo", "lost", "copies", "lag_at_end"):
            total[name] = total.get(name, 0) + (figures[name] or 0)
        total["errors"] = sorted({*total.get("errors", []), *figures["errors"]})[:6]
        total["levels"] = sorted({*total.get("levels", []), figures["level"]})
    result = {"kind": "upgrade", "rounds": options.rounds, **total, "pause_s": verdict.spread([pause for _, pause in pauses])}
    for kind in ("upgrade", "downgrade", "restart"):
        of_kind = [(fault, pause) for fault, pause in pauses if fault["fault"] == kind]
        result[f"pause_{kind}_s"] = verdict.spread([pause for _, pause in of_kind])
        result[f"pause_{kind}_leader_s"] = verdict.spread([pause for fault, pause in of_kind if fault["leading"]])
    codes = sorted({str(fault["exit"]) for fault, _ in pauses})
    wrong += [f"{name} = {result[name]}" for name in ("failed_normal", "lost", "copies") if result[name]]
    wrong += [f"an exit code of {code}" for code in codes if code not in ("0", "None")]
    too_long = [pause for _, pause in pauses if pause * 1000 > options.limit_ms]
    wrong += [f"{len(too_long)} of {len(pauses)} pauses above {options.limit_ms:g} ms"] if too_long else []
    return verdict.conclude(result, wrong, options.json)


if __name__ == "__main__":
    sys.exit(main())
