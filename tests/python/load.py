"""Load with the unmodified official Python client, one role a process; ends on SIGTERM, or once its standard input closes.

    python load.py send   --access-point H:P --history FILE --normal-topic N --fifo-topic F --message-groups g,g,g …
    python load.py simple --access-point H:P --history FILE --topic T --consumer-group G
    python load.py push   --access-point H:P --history FILE --topic T --consumer-group G
"""

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
import uuid

from history import History
from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
)

STOP = threading.Event()


def configuration(access_point):
    """Default settings: nothing but the access point is given."""
    return ClientConfiguration(access_point, Credentials())


def padded(fields, size):
    text = json.dumps(fields, separators=(",", ":"))
    return (text + " " * max(0, size - len(text))).encode()


class Sender(threading.Thread):
    """Sends one message after another, each with its own body and key. With a message group: FIFO, in sequence."""

    def __init__(self, producer, history, number, topic, message_group, options):
        super().__init__(daemon=True)
        self.producer, self.history, self.number = producer, history, number
        self.topic, self.message_group, self.options = topic, message_group, options
        self.counts = {"ok": 0, "failed": 0}

    def run(self):
        stream = uuid.uuid4().hex[:8]
        sequence = 0
        while not STOP.is_set():
            key = f"{stream}-{self.number}-{sequence}"
            fields = {"key": key, "sequence": sequence, "message_group": self.message_group}
            message = Message()
            message.topic = self.topic
            message.body = padded(fields, self.options.size)
            message.keys = key
            if self.message_group:
                message.message_group = self.message_group
            self.history.add("send", op="intent", topic=self.topic, sender=self.number, **fields)
            try:
                receipt = self.producer.send(message)
                self.history.add("send", op="ok", key=key, message_id=receipt.message_id, offset=receipt.offset)
                self.counts["ok"] += 1
                STOP.wait(self.options.pace_ms / 1000)
            except Exception as error:  # whatever the client raises is what its user sees
                self.history.add("send", op="unknown", key=key, error=f"{type(error).__name__}: {error}"[:300])
                self.counts["failed"] += 1
                STOP.wait(0.2)
            sequence += 1


def send(options, history):
    producers = []
    for _ in range(options.producers):
        producer = Producer(configuration(options.access_point), (options.normal_topic, options.fifo_topic))
        producer.startup()
        producers.append(producer)
    groups = [group for group in options.message_groups.split(",") if group]
    senders = []
    for number in range(options.senders):
        group = groups[number] if number < len(groups) else None
        topic = options.fifo_topic if group else options.normal_topic
        senders.append(Sender(producers[number % len(producers)], history, number, topic, group, options))
    print("ready", flush=True)
    for sender in senders:
        sender.start()
    STOP.wait()
    for sender in senders:
        sender.join(30)
    for producer in producers:
        producer.shutdown()
    return {"ok": sum(s.counts["ok"] for s in senders), "failed": sum(s.counts["failed"] for s in senders)}


def seen(history, consumer, options, message):
    fields = json.loads(message.body)
    history.add(
        "receive",
        consumer=consumer,
        consumer_group=options.consumer_group,
        topic=options.topic,
        key=fields["key"],
        message_id=message.message_id,
        attempt=message.delivery_attempt,
        message_group=message.message_group,
        sequence=fields["sequence"],
        corrupted=message.corrupted,
    )
    return fields["key"]


def acks(history, consumer, options, key, message, op, error=None):
    """How far an acknowledgement is. What raised is unknown, unless the server said that the handle is invalid."""
    outcome = {"op": op}
    if error:
        invalid = "40013" in str(getattr(error, "code", ""))
        outcome = {"op": "failed" if invalid else "unknown", "error": f"{type(error).__name__}: {error}"[:300]}
    where = dict(consumer_group=options.consumer_group, topic=options.topic)
    history.add("ack", consumer=consumer, key=key, message_id=message.message_id, **where, **outcome)


def simple(options, history):
    consumer = SimpleConsumer(configuration(options.access_point), options.consumer_group, {options.topic: FilterExpression()})
    consumer.startup()
    to_ack = queue.Queue(maxsize=4096)
    counts = {"received": 0, "receive_errors": 0, "acked": 0, "ack_errors": 0}

    def receive():
        while not STOP.is_set():
            try:
                for message in consumer.receive(32, 15):
                    counts["received"] += 1
                    to_ack.put((seen(history, "simple", options, message), message))
            except Exception:
                counts["receive_errors"] += 1
                STOP.wait(0.1)

    def ack():
        while True:
            taken = to_ack.get()
            if taken is None:
                return
            key, message = taken
            # As an application would: again, until the message would be visible again anyway.
            for _ in range(40):
                acks(history, "simple", options, key, message, "intent")
                try:
                    consumer.ack(message)
                    counts["acked"] += 1
                    acks(history, "simple", options, key, message, "ok")
                    break
                except Exception as error:
                    counts["ack_errors"] += 1
                    acks(history, "simple", options, key, message, "unknown", error)
                    if "40013" in str(getattr(error, "code", "")) or STOP.is_set():
                        break
                    time.sleep(0.25)

    receivers = [threading.Thread(target=receive, daemon=True) for _ in range(options.threads)]
    ackers = [threading.Thread(target=ack, daemon=True) for _ in range(8)]
    for thread in receivers + ackers:
        thread.start()
    print("ready", flush=True)
    STOP.wait()
    for thread in receivers:
        thread.join(0.1)
    for _ in ackers:
        to_ack.put(None)
    for thread in ackers:
        thread.join(5)
    return counts


class Observed(PushConsumer):
    """The official push consumer; only writes down how its acks end, which the client keeps to itself."""

    def __init__(self, history, options, *arguments):
        super().__init__(*arguments)
        self.observed_history, self.observed_options = history, options

    def _ack(self, message):
        key = json.loads(message.body)["key"]
        of = (self.observed_history, "push", self.observed_options, key, message)
        acks(*of, "intent")
        try:
            super()._ack(message)
        except Exception as error:
            acks(*of, "unknown", error)
            raise
        acks(*of, "ok")


class Listener(MessageListener):
    def __init__(self, history, options):
        self.history, self.options, self.received = history, options, 0

    def consume(self, message):
        seen(self.history, "push", self.options, message)
        self.received += 1
        return ConsumeResult.SUCCESS


def push(options, history):
    listener = Listener(history, options)
    consumer = Observed(
        history, options, configuration(options.access_point), options.consumer_group, listener, {options.topic: FilterExpression()}
    )
    consumer.startup()
    print("ready", flush=True)
    STOP.wait()
    return {"received": listener.received}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["send", "simple", "push"])
    parser.add_argument("--access-point", required=True)
    parser.add_argument("--history", required=True)
    parser.add_argument("--topic")
    parser.add_argument("--consumer-group")
    parser.add_argument("--normal-topic")
    parser.add_argument("--fifo-topic")
    parser.add_argument("--message-groups", default="")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pace-ms", type=float, default=25.0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (sys.stdin.read(), STOP.set()), daemon=True).start()
    history = History(options.history)
    counts = {"send": send, "simple": simple, "push": push}[options.role](options, history)
    history.close()
    print(json.dumps(counts), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
