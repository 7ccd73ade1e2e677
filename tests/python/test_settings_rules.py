"""The rules for the Settings that a client sends over Telemetry: what breaks them ends the stream."""

import grpc
import pytest
import wire
from wire import Code, definition, service

GOOD = "rules-topic"


def telemetry_error(door, command):
    with pytest.raises(grpc.RpcError) as raised:
        for answer in door.stub.Telemetry(iter([command]), metadata=wire.metadata(), timeout=10):
            assert not answer.HasField("settings")
    return raised.value.code()


def test_settings_of_neither_kind(door):
    command = service.TelemetryCommand()
    command.settings.client_type = definition.ClientType.PRODUCER
    assert telemetry_error(door, command) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("topic", ["", "not valid", "TBW102"])
def test_settings_with_a_bad_topic(door, topic):
    command = service.TelemetryCommand()
    command.settings.publishing.topics.add(name=topic)
    assert telemetry_error(door, command) == grpc.StatusCode.INVALID_ARGUMENT


def test_settings_with_a_bad_consumer_group(door):
    command = service.TelemetryCommand()
    command.settings.subscription.group.name = "not valid"
    assert telemetry_error(door, command) == grpc.StatusCode.INVALID_ARGUMENT


def length_delimited(field, content):
    """One protobuf field of bytes; used for fields that the client's table does not have yet."""
    size, prefix = len(content), bytearray([field << 3 | 2])
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes(prefix) + bytes([size]) + content


def with_client_properties(pairs):
    publishing = service.TelemetryCommand()
    publishing.settings.publishing.topics.add(name=GOOD)
    settings = publishing.settings.SerializeToString()
    for key, value in pairs:
        settings += length_delimited(9, length_delimited(1, key.encode()) + length_delimited(2, value.encode()))
    return service.TelemetryCommand.FromString(length_delimited(2, settings))


@pytest.mark.parametrize(
    "pairs",
    [
        [(f"k{n}", "v") for n in range(33)],
        [("", "v")],
        [("k" * 65, "v")],
        [("1k", "v")],
        [("k k", "v")],
        [("k", "v" * 257)],
        [("rocketmq.x", "v")],
        [(f"k{n:02}", "v" * 256) for n in range(16)],
    ],
    ids=["too many", "empty key", "long key", "digit first", "space", "long value", "reserved", "too many bytes"],
)
def test_bad_client_properties(door, pairs):
    try:
        answers = list(door.stub.Telemetry(iter([with_client_properties(pairs)]), metadata=wire.metadata(), timeout=10))
        assert answers and Code.Name(answers[0].status.code) == "INVALID_CLIENT_PROPERTIES"
    except ValueError:
        # The client's table has no name for the code: its number is enough.
        assert answers[0].status.code == 40021
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_good_client_properties(door):
    pairs = [("k" * 64, "v" * 256), ("a.b-c_1", "")]
    answer = next(door.stub.Telemetry(iter([with_client_properties(pairs)]), metadata=wire.metadata(), timeout=10))
    assert answer.status.code == Code.OK
