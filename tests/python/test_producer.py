"""The official producer."""

import time

import pytest
import wire
from rocketmq import Message
from rocketmq.v5.exception import ClientException


def message(topic, body=b"hello", **fields):
    made = Message()
    made.topic, made.body = topic, body
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def stored(access_points, topic):
    return wire.read_everything(access_points, topic, threads=1, timeout=20)


def test_normal_message_with_everything(clients, access_points, name):
    topic = name()
    sent = message(topic, b"body \x00\xff", tag="blue", keys="key-1")
    sent.add_property("color", "grün")
    receipt = clients.producer(topic).send(sent)
    assert receipt.message_id == sent.message_id
    assert receipt.offset == 0
    (found,) = stored(access_points, topic)
    system = found.system_properties
    assert (found.body, system.tag, list(system.keys)) == (b"body \x00\xff", "blue", ["key-1"])
    assert dict(found.user_properties) == {"color": "grün"}
    assert system.message_id == sent.message_id


def test_producer_without_preset_topics(clients, name):
    assert clients.producer().send(message(name())).offset == 0


def test_offsets_are_dense(clients, admin, access_points, name):
    topic = name()
    producer = clients.producer(topic)
    for number in range(40):
        producer.send(message(topic, str(number).encode()))
    places = sorted((m.system_properties.queue_id, m.system_properties.queue_offset) for m in stored(access_points, topic))
    expected = [(queue, offset) for (_, queue), (first, last) in sorted(admin.queues(topic).items()) for offset in range(first, last)]
    assert places == expected
    assert len(places) == 40


def test_fifo_stays_in_one_queue_in_order(clients, access_points, name):
    topic = name()
    producer = clients.producer(topic)
    for number in range(20):
        for group in ("a", "b", "c"):
            producer.send(message(topic, f"{group}{number}".encode(), message_group=group))
    groups = {}
    for found in stored(access_points, topic):
        system = found.system_properties
        groups.setdefault(system.message_group, []).append((system.queue_id, system.queue_offset, found.body.decode()))
    assert sorted(groups) == ["a", "b", "c"]
    for group, entries in groups.items():
        assert len({queue for queue, _, _ in entries}) == 1
        assert [body for _, _, body in sorted(entries)] == [f"{group}{number}" for number in range(20)]


def test_send_async(clients, access_points, name):
    topic = name()
    producer = clients.producer(topic)
    futures = [producer.send_async(message(topic, str(number).encode())) for number in range(50)]
    ids = {future.result(10).message_id for future in futures}
    assert ids == {found.system_properties.message_id for found in stored(access_points, topic)}


@pytest.mark.parametrize("size", [1, 1 << 20, 4 << 20])
def test_body_sizes(clients, access_points, name, size):
    topic = name()
    clients.producer(topic).send(message(topic, b"x" * size))
    (found,) = stored(access_points, topic)
    assert len(found.body) == size


def test_body_too_large_is_refused_by_the_settings(clients, name):
    topic = name()
    with pytest.raises(Exception, match="(?i)body size exceeds"):
        clients.producer(topic).send(message(topic, b"x" * ((4 << 20) + 1)))


def test_message_type_conflict(clients, admin, name):
    topic = name()
    admin.create_topic(topic, "normal")
    with pytest.raises(Exception, match="(?i)type"):
        clients.producer(topic).send(message(topic, message_group="g"))


def test_delayed_message_is_not_there_yet_and_stores_nothing(clients, admin, name):
    topic = name()
    producer = clients.producer(topic)
    producer.send(message(topic))
    with pytest.raises(ClientException) as raised:
        producer.send(message(topic, delivery_timestamp=int(time.time()) + 60))
    assert raised.value.code == wire.Code.NOT_IMPLEMENTED
    assert sum(last - first for first, last in admin.queues(topic).values()) == 1


def test_sends_in_parallel_from_eight_threads(clients, access_points, name):
    from concurrent.futures import ThreadPoolExecutor

    topic = name()
    producer = clients.producer(topic)
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda n: producer.send(message(topic, str(n).encode())).message_id, range(400)))
    assert ids == {found.system_properties.message_id for found in stored(access_points, topic)}


def test_shutdown_is_quick(clients, name):
    topic = name()
    producer = clients.producer(topic)
    producer.send(message(topic))
    at = time.monotonic()
    producer.shutdown()
    assert time.monotonic() - at < 5
    assert not producer.is_running
