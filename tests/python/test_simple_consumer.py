"""The official simple consumer."""

import threading
import time

import pytest
from test_producer import message


def send(clients, topic, *bodies, **fields):
    producer = clients.producer(topic)
    return [producer.send(message(topic, body, **fields)).message_id for body in bodies]


def drain(consumer, count, invisible=30, timeout=20.0):
    found, deadline = [], time.monotonic() + timeout
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.receive(32, invisible)
    return found


def test_receive_and_ack(clients, admin, name):
    topic, group = name(), name("cg")
    ids = send(clients, topic, *[str(n).encode() for n in range(100)])
    consumer = clients.simple(group, topic)
    found = drain(consumer, 100)
    assert sorted(m.message_id for m in found) == sorted(ids)
    assert {m.delivery_attempt for m in found} == {1}
    assert not any(m.corrupted for m in found)
    for m in found:
        consumer.ack(m)
    assert admin.lag(group) == 0
    assert consumer.receive(32, 30) == []


def test_fields_of_a_received_message(clients, name):
    topic = name()
    sent = message(topic, b"body", tag="t1", keys="k1")
    sent.add_property("p", "v")
    clients.producer(topic).send(sent)
    (found,) = drain(clients.simple(name("cg"), topic), 1)
    assert (found.topic, found.body, found.tag, found.keys) == (topic, b"body", "t1", {"k1"})
    assert found.properties == {"p": "v"}
    assert found.born_host and abs(found.born_timestamp / 1000 - time.time()) < 60
    assert found.receipt_handle and found.message_type == 1


def test_two_consumer_groups_each_get_all(clients, name):
    topic = name()
    ids = sorted(send(clients, topic, b"1", b"2", b"3"))
    for _ in range(2):
        assert sorted(m.message_id for m in drain(clients.simple(name("cg"), topic), 3)) == ids


def test_two_consumers_of_a_group_share(clients, name):
    topic, group = name(), name("cg")
    ids = send(clients, topic, *[str(n).encode() for n in range(60)])
    first, second = clients.simple(group, topic), clients.simple(group, topic)
    found = []
    while len(found) < 60:
        got = first.receive(5, 30) + second.receive(5, 30)
        assert got
        found += got
    assert sorted(m.message_id for m in found) == sorted(ids)


def test_expired_lease_is_delivered_again_and_its_handle_is_dead(clients, name):
    topic, group = name(), name("cg")
    send(clients, topic, b"again")
    consumer = clients.simple(group, topic)
    (first,) = drain(consumer, 1, invisible=10)
    at = time.monotonic()
    (second,) = drain(consumer, 1, invisible=30)
    assert 8.0 < time.monotonic() - at < 13.0
    assert (second.message_id, second.delivery_attempt) == (first.message_id, 2)
    with pytest.raises(Exception) as raised:
        consumer.ack(first)
    assert raised.value.code == 40013
    consumer.ack(second)


def test_change_invisible_duration(clients, name):
    topic, group = name(), name("cg")
    send(clients, topic, b"later")
    consumer = clients.simple(group, topic)
    (first,) = drain(consumer, 1)
    old_handle = first.receipt_handle
    at = time.monotonic()
    consumer.change_invisible_duration(first, 2)
    assert first.receipt_handle != old_handle
    (second,) = drain(consumer, 1)
    assert 1.0 < time.monotonic() - at < 4.5
    assert second.delivery_attempt == 2
    consumer.ack(second)


def test_ack_after_change_with_the_new_handle(clients, admin, name):
    topic, group = name(), name("cg")
    send(clients, topic, b"x")
    consumer = clients.simple(group, topic)
    (found,) = drain(consumer, 1)
    consumer.change_invisible_duration(found, 60)
    consumer.ack(found)
    assert admin.lag(group) == 0


def test_long_poll_waits_and_wakes(clients, name):
    topic, group = name(), name("cg")
    producer = clients.producer(topic)
    producer.send(message(topic, b"first"))
    consumer = clients.simple(group, topic)
    for m in drain(consumer, 1):
        consumer.ack(m)
    threading.Timer(1.5, lambda: producer.send(message(topic, b"second"))).start()
    at = time.monotonic()
    found = consumer.receive(32, 30)
    assert [m.body for m in found] == [b"second"]
    assert 1.0 < time.monotonic() - at < 3.0


def test_empty_long_poll_takes_its_time(clients, name):
    topic = name()
    clients.producer(topic).send(message(topic))
    consumer = clients.simple(name("cg"), topic)
    drain(consumer, 1)
    at = time.monotonic()
    assert consumer.receive(32, 30) == []
    assert 4.0 < time.monotonic() - at < 7.5


@pytest.mark.parametrize("expression, expected", [("a", "a"), ("a||b", "ab"), (" a || c ", "ac"), ("*", "abc-"), ("", "abc-"), ("none", "")])
def test_tag_filter(clients, name, expression, expected):
    topic = name()
    producer = clients.producer(topic)
    for tag in "abc":
        producer.send(message(topic, tag.encode(), tag=tag))
    producer.send(message(topic, b"-"))
    found = drain(clients.simple(name("cg"), topic, expression), len(expected), timeout=12) if expected else []
    if not expected:
        found = clients.simple(name("cg"), topic, expression).receive(32, 30)
    assert "".join(sorted(m.body.decode() for m in found)) == "".join(sorted(expected))


def test_goes_to_the_dead_letter_queue_after_the_last_attempt(clients, admin, name):
    topic, group = name(), name("cg")
    admin.create_consumer_group(group, max_attempts=2)
    (message_id,) = send(clients, topic, b"poison")
    consumer = clients.simple(group, topic)
    for attempt in (1, 2):
        (found,) = drain(consumer, 1)
        assert found.delivery_attempt == attempt
        consumer.change_invisible_duration(found, 0)
    assert consumer.receive(32, 30) == []
    (dead,) = drain(clients.simple(name("cg"), f"%DLQ%{group}"), 1)
    assert dead.body == b"poison"
    assert admin.lag(group) == 0
    assert message_id


def test_fifo_consumer_group_holds_a_message_group_until_acked(clients, admin, name):
    topic, group = name(), name("cg")
    admin.create_topic(topic, "fifo", 1)
    admin.create_consumer_group(group, fifo=True)
    send(clients, topic, *[str(n).encode() for n in range(4)], message_group="g")
    consumer = clients.simple(group, topic)
    bodies = []
    while len(bodies) < 4:
        batch = consumer.receive(2, 30)
        assert batch
        assert consumer.receive(2, 30) == []
        for m in batch:
            bodies.append(m.body)
            consumer.ack(m)
        if len(bodies) == 2:
            assert bodies == [b"0", b"1"]
    assert bodies == [b"0", b"1", b"2", b"3"]


def test_shutdown_is_quick_and_others_get_the_messages(clients, name):
    topic, group = name(), name("cg")
    send(clients, topic, b"x")
    consumer = clients.simple(group, topic)
    (found,) = drain(consumer, 1, invisible=10)
    at = time.monotonic()
    consumer.shutdown()
    assert time.monotonic() - at < 8
    (again,) = drain(clients.simple(group, topic), 1)
    assert again.message_id == found.message_id
