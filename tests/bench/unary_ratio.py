"""Three replicas against an empty handler, alternately on the same machine: the ratio of messages/s. Run ./unary-ratio.

Two load generators drive both: `ledgermq bench produce --unary` (`bench`, the one that is judged) and the bare one of
`empty-handler` (`bare`), which talks to the leader alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import wire
from replicas import Cluster


def json_of(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}")
    found = json.loads(done.stdout[done.stdout.index("{"):])
    found.setdefault("messages_per_s", found.get("messages_per_second"))
    return found


class EmptyServer:
    def __init__(self, program):
        self.process = subprocess.Popen([program, "serve"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[1]

    def stop(self):
        self.process.kill()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--least", type=float, default=0.27, help="the ratio that must be reached")
    parser.add_argument("--json")
    options = parser.parse_args()
    program = os.path.join(os.environ["LEDGERMQ_RELEASE_DIR"], "empty-handler")
    load = ["--in-flight", str(options.in_flight), "--size", str(options.size), "--topic", "bench"]
    bare = [program, "load", *load, "--seconds", str(options.seconds)]
    runs = {"empty": {"bench": [], "bare": []}, "replicas": {"bench": [], "bare": []}}
    with Cluster() as cluster:
        bench = [cluster.binary, "bench", "produce", "--unary", *load, "--duration", f"{options.seconds}s"]
        cluster.wait_healthy()
        admin = wire.Administration(next(iter(cluster.replicas.values())).access_point)
        admin.create_topic("bench", "normal")
        admin.close()
        pids = ",".join(str(replica.pid) for replica in cluster.replicas.values())
        for _ in range(options.rounds):
            server = EmptyServer(program)
            try:
                runs["empty"]["bench"].append(json_of([*bench, "--endpoints", server.address, "--pids", str(server.process.pid)]))
                runs["empty"]["bare"].append(json_of([*bare, "--address", server.address]))
            finally:
                server.stop()
            runs["replicas"]["bench"].append(json_of([*bench, "--endpoints", cluster.endpoints, "--pids", pids]))
            runs["replicas"]["bare"].append(json_of([*bare, "--address", cluster.leader().access_point]))
            figures = {f"{what} {how}": [round(r["messages_per_s"]) for r in found] for what, by in runs.items() for how, found in by.items()}
            print(figures, flush=True)
    medians = {what: {how: statistics.median(r["messages_per_s"] for r in found) for how, found in by.items()} for what, by in runs.items()}
    ratios = {how: round(medians["replicas"][how] / medians["empty"][how], 4) for how in ("bench", "bare")}
    result = {"messages_per_s": medians, "ratio": ratios, "runs": runs, "holds": ratios["bench"] >= options.least}
    print(json.dumps(result, indent=2))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=2)
    print(f"ratio {ratios['bench']:.1%}, at least {options.least:.0%} wanted: {'holds' if result['holds'] else 'DOES NOT HOLD'}")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
