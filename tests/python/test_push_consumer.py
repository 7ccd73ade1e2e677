"""The official push consumer."""

import threading
import time
from collections import defaultdict

from rocketmq import ConsumeResult, MessageListener
from test_producer import message


class Collector(MessageListener):
    """Keeps what came; fails the first `failures` deliveries of each message."""

    def __init__(self, failures=0, hold=0.0):
        self.failures, self.hold = failures, hold
        self.seen, self.tries = [], defaultdict(list)
        self.lock = threading.Lock()

    def consume(self, received):
        with self.lock:
            self.tries[received.message_id].append((time.monotonic(), received.delivery_attempt))
            failing = len(self.tries[received.message_id]) <= self.failures
            if not failing:
                self.seen.append(received)
        time.sleep(self.hold)
        return ConsumeResult.FAILURE if failing else ConsumeResult.SUCCESS

    def wait(self, count, timeout=30.0):
        deadline = time.monotonic() + timeout
        while len(self.seen) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(self.seen) >= count, f"{len(self.seen)} of {count} came"
        return self.seen


def wait_for_no_lag(admin, group, timeout=15.0):
    deadline = time.monotonic() + timeout
    while admin.lag(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert admin.lag(group) == 0


def test_success(clients, admin, name):
    topic, group = name(), name("cg")
    producer = clients.producer(topic)
    listener = Collector()
    before = [producer.send(message(topic, str(n).encode())).message_id for n in range(50)]
    clients.push(group, topic, listener)
    listener.wait(50)
    after = [producer.send(message(topic, str(n).encode())).message_id for n in range(50)]
    listener.wait(100)
    assert sorted(m.message_id for m in listener.seen) == sorted(before + after)
    assert {m.delivery_attempt for m in listener.seen} == {1}
    wait_for_no_lag(admin, group)
    assert all(len(tries) == 1 for tries in listener.tries.values())


def test_failure_is_retried_by_the_schedule_with_attempts(clients, admin, name):
    topic, group = name(), name("cg")
    message_id = clients.producer(topic).send(message(topic, b"retry")).message_id
    listener = Collector(failures=2)
    clients.push(group, topic, listener)
    listener.wait(1, timeout=25)
    (first, one), (second, two), (third, three) = listener.tries[message_id]
    assert (one, two, three) == (1, 2, 3)
    # The schedule of a consumer group starts 1 s, 5 s.
    assert 0.8 < second - first < 4.0
    assert 4.5 < third - second < 9.0
    wait_for_no_lag(admin, group)


def test_tag_filter(clients, name):
    topic, group = name(), name("cg")
    producer = clients.producer(topic)
    for number in range(10):
        producer.send(message(topic, str(number).encode(), tag="even" if number % 2 == 0 else "odd"))
    listener = Collector()
    clients.push(group, topic, listener, "even")
    listener.wait(5)
    time.sleep(1)
    assert sorted(m.body for m in listener.seen) == [b"0", b"2", b"4", b"6", b"8"]


def test_fifo_order(clients, admin, name):
    topic, group = name(), name("cg")
    admin.create_topic(topic, "fifo")
    admin.create_consumer_group(group, fifo=True)
    producer = clients.producer(topic)
    for number in range(30):
        for key in ("a", "b", "c", "d"):
            producer.send(message(topic, f"{key}{number:02}".encode(), message_group=key))
    listener = Collector(hold=0.002)
    consumer = clients.push(group, topic, listener)
    assert consumer.fifo
    listener.wait(120)
    for key in ("a", "b", "c", "d"):
        bodies = [m.body.decode() for m in listener.seen if m.message_group == key]
        assert bodies == [f"{key}{number:02}" for number in range(30)]
    wait_for_no_lag(admin, group)


def test_fifo_order_holds_through_a_failure(clients, admin, name):
    topic, group = name(), name("cg")
    admin.create_topic(topic, "fifo")
    admin.create_consumer_group(group, fifo=True)
    producer = clients.producer(topic)
    for number in range(3):
        producer.send(message(topic, str(number).encode(), message_group="g"))
    listener = Collector(failures=1)
    clients.push(group, topic, listener)
    listener.wait(3)
    assert [m.body for m in listener.seen] == [b"0", b"1", b"2"]


def test_two_consumers_share(clients, admin, name):
    topic, group = name(), name("cg")
    first, second = Collector(hold=0.02), Collector(hold=0.02)
    clients.push(group, topic, first)
    clients.push(group, topic, second)
    time.sleep(2)
    producer = clients.producer(topic)
    ids = [producer.send(message(topic, str(n).encode())).message_id for n in range(200)]
    deadline = time.monotonic() + 30
    while len(first.seen) + len(second.seen) < 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(m.message_id for m in first.seen + second.seen) == sorted(ids)
    assert first.seen and second.seen
    wait_for_no_lag(admin, group)


def test_shutdown_is_quick_and_loses_nothing(clients, name):
    topic, group = name(), name("cg")
    producer = clients.producer(topic)
    producer.send(message(topic, b"1"))
    listener = Collector()
    consumer = clients.push(group, topic, listener)
    listener.wait(1)
    at = time.monotonic()
    consumer.shutdown()
    assert time.monotonic() - at < 10
    producer.send(message(topic, b"2"))
    second = Collector()
    clients.push(group, topic, second)
    second.wait(1)
    assert [m.body for m in second.seen] == [b"2"]
