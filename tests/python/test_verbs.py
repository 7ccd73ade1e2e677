"""What each verb answers, below the official client: routes by language, Settings, deliveries, handles at every door."""

import hashlib
import queue
import time

import pytest
import wire
from wire import Code, definition, duration, message, resource, service


@pytest.fixture
def doors(access_points):
    opened = [wire.Door(access_point) for access_point in access_points]
    yield opened
    for each in opened:
        each.close()


def addresses(message_queue):
    return [f"{a.host}:{a.port}" for a in message_queue.broker.endpoints.addresses]


# Routes.


def test_route_of_an_existing_topic(door, admin, name):
    topic = name()
    admin.create_topic(topic, "mixed", 8)
    answer = wire.route(door, topic)
    assert answer.status.code == Code.OK
    by_broker = {}
    for found in answer.message_queues:
        assert found.topic.name == topic
        assert found.permission == definition.Permission.READ_WRITE
        assert found.broker.id == 0 and found.broker.name
        assert list(found.accept_message_types) == [1, 2, 3, 4]
        assert found.broker.endpoints.scheme == definition.AddressScheme.IPv4
        by_broker.setdefault(found.broker.name, []).append(found.id)
    for ids in by_broker.values():
        assert ids == list(range(len(ids)))


@pytest.mark.parametrize("kind, types", [("normal", [1]), ("fifo", [2]), ("delay", [3]), ("transaction", [4])])
def test_accepted_types_in_the_route(door, admin, name, kind, types):
    topic = name()
    admin.create_topic(topic, kind, 2)
    assert list(wire.route(door, topic).message_queues[0].accept_message_types) == types


def test_route_echoes_the_namespace(door, admin, name):
    topic = name()
    admin.create_topic(topic, "mixed", 1)
    request = service.QueryRouteRequest(topic=definition.Resource(resource_namespace="ns", name=topic))
    assert door.call("QueryRoute", request).message_queues[0].topic.resource_namespace == "ns"


@pytest.mark.parametrize("language", ["PYTHON", "GO", "CPP"])
def test_route_for_clients_that_take_one_address_a_queue(door, admin, access_points, name, language):
    topic = name()
    admin.create_topic(topic, "mixed", 8)
    queues = wire.route(door, topic, language=language).message_queues
    assert all(len(addresses(q)) == 1 for q in queues)
    assert {addresses(q)[0] for q in queues} == set(access_points)
    # The retry of a failed send goes to the next queue: it must be another replica.
    order = [addresses(q)[0] for q in queues]
    assert all(a != b for a, b in zip(order, order[1:]))


@pytest.mark.parametrize("language", ["JAVA", "RUST"])
def test_route_for_clients_that_take_several_addresses(door, admin, access_points, name, language):
    topic = name()
    admin.create_topic(topic, "mixed", 8)
    queues = wire.route(door, topic, language=language).message_queues
    assert all(set(addresses(q)) == set(access_points) for q in queues)


@pytest.mark.parametrize("language", ["HTTP", "DOTNET"])
def test_route_for_clients_that_see_only_queue_zero(door, admin, access_points, name, language):
    topic = name()
    admin.create_topic(topic, "mixed", 8)
    queues = wire.route(door, topic, language=language).message_queues
    zero = [q for q in queues if q.id == 0]
    assert {addresses(q)[0] for q in zero} == set(access_points)
    assert len({q.broker.name for q in zero}) == len(access_points)
    assert all(len(addresses(q)) == 1 for q in queues)


# Settings.


def settings_answer(door, command, language="JAVA"):
    requests = queue.Queue()
    requests.put(command)
    headers = wire.metadata(door.client_id, language)
    stream = door.stub.Telemetry(iter(requests.get, None), metadata=headers, timeout=20)
    answer = next(stream)
    requests.put(None)
    assert answer.status.code == Code.OK and answer.status.message
    assert list(stream) == []
    return answer.settings


def client_settings(kind):
    command = service.TelemetryCommand()
    command.settings.client_type = kind
    command.settings.request_timeout.seconds = 3
    command.settings.access_point.scheme = definition.AddressScheme.IPv4
    command.settings.access_point.addresses.add(host="127.0.0.1", port=1)
    command.settings.user_agent.language = definition.Language.JAVA
    command.settings.user_agent.version = "5.0.7"
    return command


def test_settings_of_a_producer(door, name):
    command = client_settings(definition.ClientType.PRODUCER)
    command.settings.publishing.topics.add(name=name())
    answer = settings_answer(door, command)
    assert answer.WhichOneof("pub_sub") == "publishing"
    assert answer.publishing.topics == command.settings.publishing.topics
    for field in ("client_type", "access_point", "request_timeout", "user_agent"):
        assert getattr(answer, field) == getattr(command.settings, field)
    assert (answer.publishing.max_body_size, answer.publishing.validate_message_type) == (4194304, True)
    assert answer.backoff_policy.max_attempts == 3
    backoff = answer.backoff_policy.exponential_backoff
    assert (backoff.initial.ToMilliseconds(), backoff.max.ToMilliseconds(), backoff.multiplier) == (10, 1000, 2)
    assert answer.HasField("metric") and not answer.metric.on


SCHEDULE = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200]


@pytest.mark.parametrize("kind", [definition.ClientType.PUSH_CONSUMER, definition.ClientType.SIMPLE_CONSUMER])
@pytest.mark.parametrize("fifo", [False, True])
def test_settings_of_a_consumer(door, admin, name, kind, fifo):
    group = name("cg")
    admin.create_consumer_group(group, fifo=fifo)
    command = client_settings(kind)
    command.settings.subscription.group.name = group
    entry = command.settings.subscription.subscriptions.add()
    entry.topic.name = name()
    entry.expression.type, entry.expression.expression = definition.FilterType.TAG, "*"
    answer = settings_answer(door, command)
    found = answer.subscription
    assert (found.group.name, found.subscriptions) == (group, command.settings.subscription.subscriptions)
    assert (found.fifo, found.receive_batch_size, found.long_polling_timeout.ToMilliseconds()) == (fifo, 32, 20000)
    assert answer.backoff_policy.max_attempts == 17
    assert [step.seconds for step in answer.backoff_policy.customized_backoff.next] == SCHEDULE


# Assignments and deliveries.


def test_assignment(door, admin, name):
    topic = name()
    admin.create_topic(topic, "mixed", 8)
    for fifo in (False, True):
        group = name("cg")
        admin.create_consumer_group(group, fifo=fifo)
        answer = door.call("QueryAssignment", service.QueryAssignmentRequest(topic=resource(topic), group=resource(group)))
        assert answer.status.code == Code.OK and answer.assignments
        ids = [a.message_queue.id for a in answer.assignments]
        assert sorted(ids) == list(range(8)) if fifo else ids and all(a.message_queue.broker.endpoints.addresses for a in answer.assignments)
        again = door.call("QueryAssignment", service.QueryAssignmentRequest(topic=resource(topic), group=resource(group)))
        assert again == answer


def test_delivery_holds_every_field(door, name):
    topic = name()
    sent = message(topic, b"abc", tag="t", keys=["k 1", "k2"], trace_context="trace", properties={"p": "v"})
    before = time.time()
    door.send(sent)
    code, (found,) = door.receive(topic, name("cg"))
    system = found.system_properties
    assert code == Code.OK and found.topic.name == topic and found.body == b"abc"
    assert (system.body_digest.type, system.body_digest.checksum) == (definition.DigestType.MD5, hashlib.md5(b"abc").hexdigest().upper())
    assert system.body_encoding == definition.Encoding.IDENTITY
    assert system.message_type == definition.MessageType.NORMAL
    # Timestamps are kept in milliseconds.
    born = sent.system_properties.born_timestamp.ToMilliseconds()
    assert (system.born_timestamp.ToMilliseconds(), system.born_host) == (born, "127.0.0.1")
    assert abs(system.store_timestamp.ToMilliseconds() / 1000 - before) < 10 and system.store_host
    assert (system.queue_offset, system.delivery_attempt) == (0, 1)
    assert 0 <= system.queue_id < 8 and system.receipt_handle.isascii() and system.receipt_handle
    assert (system.tag, list(system.keys), system.trace_context) == ("t", ["k 1", "k2"], "trace")
    assert dict(found.user_properties) == {"p": "v"}
    assert not system.HasField("delivery_timestamp")


def test_fifo_delivery_names_its_message_group(door, name):
    topic = name()
    door.send(message(topic, message_group="g", message_type=definition.MessageType.FIFO))
    _, (found,) = door.receive(topic, name("cg"))
    assert (found.system_properties.message_group, found.system_properties.message_type) == ("g", definition.MessageType.FIFO)


def test_compressed_body_passes_unchanged(door, name):
    import gzip

    topic, body = name(), gzip.compress(b"text " * 100)
    door.send(message(topic, body, body_encoding=definition.Encoding.GZIP))
    _, (found,) = door.receive(topic, name("cg"))
    assert found.body == body and found.system_properties.body_encoding == definition.Encoding.GZIP
    assert found.system_properties.body_digest.checksum == hashlib.md5(body).hexdigest().upper()


def test_frames_of_a_receive(door, name):
    topic = name()
    door.send(message(topic))
    request = wire.receive_request(topic, name("cg"))
    kinds = [frame.WhichOneof("content") for frame in door.call("ReceiveMessage", request)]
    assert kinds == ["status", "message", "delivery_timestamp"]
    frames = door.call("ReceiveMessage", wire.receive_request(topic, request.group.name))
    assert [frame.WhichOneof("content") for frame in frames] == ["status", "delivery_timestamp"]
    assert frames[0].status.code == Code.MESSAGE_NOT_FOUND


def test_batch_size_is_capped(door, name):
    topic = name()
    door.send(*[message(topic, str(n).encode()) for n in range(50)])
    _, found = door.receive(topic, name("cg"), batch=1000)
    assert 0 < len(found) <= 32


def test_queue_named_in_a_receive_does_not_matter(door, admin, name):
    topic, group = name(), name("cg")
    admin.create_topic(topic, "mixed", 8)
    for number in range(40):
        door.send(message(topic, str(number).encode()))
    found = []
    while True:
        code, more = door.receive(topic, group, queue_id=0)
        if code != Code.OK:
            break
        found += more
    assert len(found) == 40


# Any door.


def test_every_door_serves_every_verb(doors, name):
    topic, group = name(), name("cg")
    sent = set()
    for each in doors:
        found = message(topic, each.access_point.encode())
        assert each.send(found).status.code == Code.OK
        sent.add(found.system_properties.message_id)
    got = []
    while len(got) < len(doors):
        for each in doors:
            got += each.receive(topic, group, batch=1)[1]
    assert {m.system_properties.message_id for m in got} == sent
    # A handle is valid at every door, also at one that did not give it out.
    for number, found in enumerate(got):
        assert doors[(number + 1) % len(doors)].ack(topic, group, found).status.code == Code.OK


def test_repeated_send_through_any_door_is_stored_once(doors, admin, name):
    topic = name()
    client_id = name("client")
    found = message(topic, b"once")
    answers = [each.send(found, client_id=client_id) for each in doors for _ in range(2)]
    assert {answer.status.code for answer in answers} == {Code.OK}
    assert len({answer.entries[0].offset for answer in answers}) == 1
    assert sum(last - first for first, last in admin.queues(topic).values()) == 1


def test_same_message_id_with_another_body_is_another_message(door, admin, name):
    topic, message_id = name(), wire.new_message_id()
    for body in (b"one", b"two"):
        assert door.send(message(topic, body, message_id=message_id)).status.code == Code.OK
    assert sum(last - first for first, last in admin.queues(topic).values()) == 2


def test_ack_twice_is_good(door, name):
    topic, group = name(), name("cg")
    door.send(message(topic))
    _, (found,) = door.receive(topic, group)
    for _ in range(2):
        answer = door.ack(topic, group, found)
        assert (answer.status.code, answer.entries[0].status.code) == (Code.OK, Code.OK)


def test_ack_of_good_and_bad_handles_is_mixed(door, name):
    topic, group = name(), name("cg")
    door.send(message(topic))
    _, (found,) = door.receive(topic, group)
    bad = wire.definition.Message()
    bad.system_properties.message_id, bad.system_properties.receipt_handle = "m", "nonsense"
    answer = door.ack(topic, group, found, bad)
    assert answer.status.code == Code.MULTIPLE_RESULTS
    assert [entry.status.code for entry in answer.entries] == [Code.OK, Code.INVALID_RECEIPT_HANDLE]


def test_change_gives_a_new_handle_and_kills_the_old(door, name):
    topic, group = name(), name("cg")
    door.send(message(topic))
    _, (found,) = door.receive(topic, group)
    old = found.system_properties.receipt_handle
    request = service.ChangeInvisibleDurationRequest(
        group=resource(group), topic=resource(topic), receipt_handle=old, message_id="m", invisible_duration=duration(30)
    )
    answer = door.call("ChangeInvisibleDuration", request)
    assert answer.status.code == Code.OK and answer.receipt_handle not in ("", old)
    assert door.ack(topic, group, found).status.code == Code.INVALID_RECEIPT_HANDLE
    found.system_properties.receipt_handle = answer.receipt_handle
    assert door.ack(topic, group, found).status.code == Code.OK


def test_attempt_id_gives_the_same_messages_again(door, admin, name):
    topic, group = name(), name("cg")
    admin.create_topic(topic, "fifo", 1)
    admin.create_consumer_group(group, fifo=True)
    for number in range(3):
        door.send(message(topic, str(number).encode(), message_group="g", message_type=definition.MessageType.FIFO))
    _, first = door.receive(topic, group, attempt_id="attempt-1", auto_renew=True)
    _, again = door.receive(topic, group, attempt_id="attempt-1", auto_renew=True)
    code, other = door.receive(topic, group, attempt_id="attempt-2", auto_renew=True)
    assert [m.body for m in first] == [b"0", b"1", b"2"] == [m.body for m in again]
    assert {m.system_properties.delivery_attempt for m in again} == {1}
    assert code == Code.MESSAGE_NOT_FOUND and other == []


def test_termination_of_a_client_never_seen(door, name):
    answer = door.call("NotifyClientTermination", service.NotifyClientTerminationRequest(group=resource("")), client_id=name("client"))
    assert answer.status.code == Code.OK
