"""Judges the histories of a run: pauses, failed sends, lost and doubled messages, redeliveries, FIFO order. Pure functions, but for the conclusion."""

import json
from collections import defaultdict

import history


def conclude(result, wrong, path):
    """Prints the figures and the verdict, keeps them in a file if one is named, and gives the exit code."""
    result.update(holds=not wrong, wrong=wrong)
    text = json.dumps(result, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n")
    print("all holds" if not wrong else "DOES NOT HOLD: " + "; ".join(wrong))
    return 1 if wrong else 0


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def spread(values):
    """Count, median, p90, p99 and the longest, in seconds."""
    if not values:
        return {"count": 0}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {"count": len(values), **{n: round(percentile(values, s), 4) for n, s in shares.items()}, "max": round(max(values), 4)}


def pauses(ack_times, faults, end):
    """For each fault the longest gap between consecutive acks that touches [fault, next fault), as (fault, seconds).

    A gap that lasts beyond the next fault is that one's; it is the earlier one's as well only if most of it came before.
    """
    times = sorted(ack_times)
    result = []
    position = 0
    for number, fault in enumerate(faults):
        until = faults[number + 1]["t"] if number + 1 < len(faults) else end
        while position + 1 < len(times) and times[position + 1] <= fault["t"]:
            position += 1
        longest, at = 0.0, position
        last = number + 1 == len(faults)
        while at + 1 < len(times) and times[at] < until and (last or times[at] + times[at + 1] < 2 * until):
            longest = max(longest, times[at + 1] - times[at])
            at += 1
        if not times or times[-1] <= fault["t"]:
            longest = float("inf")
        result.append((fault, longest))
    return result


class Sends:
    """What the senders wrote: intents by key, and which of them were acknowledged or failed."""

    def __init__(self, path):
        self.intents, self.acked, self.failed = {}, {}, {}
        for line in history.read(path):
            if line["kind"] != "send":
                continue
            kept = {"intent": self.intents, "ok": self.acked, "unknown": self.failed}[line["op"]]
            kept[line["key"]] = line

    def ack_times(self, fifo=None):
        return [
            line["t"]
            for key, line in self.acked.items()
            if fifo is None or bool(self.intents[key].get("message_group")) == fifo
        ]

    def latencies(self, since, until):
        """Seconds from send to acknowledgement of the normal messages that were sent within this time."""
        return [
            line["t"] - self.intents[key]["t"]
            for key, line in self.acked.items()
            if since <= self.intents[key]["t"] < until and not self.intents[key].get("message_group")
        ]

    def split_failures(self, addresses, outages):
        """(failed normal, failed FIFO while their one address was down, other failed FIFO), as lists of lines.

        `outages`: (address, from, to) of dead or frozen replicas; a client keeps off an address a little longer than it is
        away (its reconnect back-off), which is granted here.
        """
        normal, dead_address, other = [], [], []
        for key, failure in self.failed.items():
            intent = self.intents[key]
            group = intent.get("message_group")
            if not group:
                normal.append(failure)
                continue
            # Where the client was, as the failure says: a route may have moved the message group to another address meanwhile.
            named = {a for a, _, _ in outages if a in failure.get("error", "")} or {addresses[group]}
            down = any(a in named and since <= failure["t"] and intent["t"] <= until + 8.0 for a, since, until in outages)
            (dead_address if down else other).append(failure)
        return normal, dead_address, other


def copies(messages):
    """{key: [(queue id, offset), …]} of everything that was read from the queues."""

    places = defaultdict(set)
    for message in messages:
        key = json.loads(message.body)["key"]
        places[key].add((message.topic.name, message.system_properties.queue_id, message.system_properties.queue_offset))
    return {key: sorted(found) for key, found in places.items()}


def stored_order_violations(messages):
    """Message groups whose messages do not stand in one queue in the order of their sequence."""

    groups = defaultdict(list)
    for message in messages:
        fields = json.loads(message.body)
        if fields["message_group"]:
            system = message.system_properties
            groups[fields["message_group"]].append((system.queue_id, system.queue_offset, fields["sequence"]))
    wrong = []
    for group, entries in groups.items():
        if len({queue for queue, _, _ in entries}) > 1:
            wrong.append(f"{group} stands in several queues")
        entries.sort()
        wrong += [f"{group}: {b[2]} at offset {b[1]} after {a[2]}" for a, b in zip(entries, entries[1:]) if b[2] <= a[2]]
    return wrong


class Receipts:
    """What one consumer wrote."""

    def __init__(self, path):
        self.received = defaultdict(list)
        self.ack_ok = {}
        self.order = defaultdict(list)
        self.ack_failures = 0
        self.corrupted = 0
        for line in history.read(path):
            if line["kind"] == "receive":
                self.received[line["key"]].append(line)
                self.corrupted += bool(line.get("corrupted"))
                if line.get("message_group"):
                    self.order[line["message_group"]].append(line)
            elif line["kind"] == "ack":
                if line["op"] == "ok":
                    self.ack_ok.setdefault(line["key"], line["t"])
                elif line["op"] != "intent":
                    self.ack_failures += 1

    def redelivered_after_ack(self):
        return [
            line
            for key, at in self.ack_ok.items()
            for line in self.received.get(key, [])
            if line["t"] > at
        ]

    def delivered_again(self):
        return sum(len(lines) - 1 for lines in self.received.values())

    def order_violations(self):
        """First deliveries of a message group out of sequence."""
        wrong = []
        for group, lines in self.order.items():
            highest = -1
            known = set()
            for line in lines:
                if line["sequence"] in known:
                    continue
                known.add(line["sequence"])
                if line["sequence"] < highest:
                    wrong.append(f"{group}: {line['sequence']} after {highest}")
                highest = max(highest, line["sequence"])
        return wrong
