"""Histories: one JSON object a line, written as things happen, so that another program can judge them later.

The format is docs/history.md's, so that `ledgermq-sim check FOLDER` judges a run too. Times are seconds of the machine's
monotonic clock, which all processes of a run share. What these clients write:

    {"kind": "group", "consumer_group", "fifo", "max_attempts", "consumes", "t"}
    {"kind": "send", "op": "intent", "key", "topic", "message_group"?, "sequence", "sender", "t"}
    {"kind": "send", "op": "ok", "key", "t", "message_id", "offset"}        the client's send returned
    {"kind": "send", "op": "unknown", "key", "t", "error"}                   it raised: stored or not, nobody knows
    {"kind": "receive", "consumer", "consumer_group", "topic", "key", "message_id", "attempt", "message_group"?, "sequence", "t"}
    {"kind": "ack", "op": "intent"|"ok"|"failed"|"unknown", "consumer", "consumer_group", "topic", "key", "message_id", "t", "error"?}
    {"kind": "stored", "topic", "queue", "offset", "key", "t"}               read from the queues at the end
    {"kind": "fault", "fault", "role", "replica", "t", ...}
"""

import json
import threading
import time


class History:
    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8", buffering=1 << 16)
        self.lock = threading.Lock()

    def add(self, kind, t=None, **fields):
        line = json.dumps({"kind": kind, "t": round(t if t is not None else time.monotonic(), 6), **fields}, separators=(",", ":"))
        with self.lock:
            self.file.write(line + "\n")

    def close(self):
        with self.lock:
            self.file.close()


def read(path):
    """The lines of a history; a last line that was cut by the end of its writer is left out."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                return
