"""The rules that hold for every call of the public protocol, each with its code. Refused messages store nothing."""

import time

import pytest
import wire
from google.protobuf.timestamp_pb2 import Timestamp
from wire import Code, definition, duration, message, resource, service

GOOD = "rules-topic"
GROUP = "rules-group"

RESERVED_PROPERTIES = """TRACE_ON MSG_REGION KEYS TAGS WAIT DELAY RETRY_TOPIC REAL_TOPIC REAL_QID TRAN_MSG PGROUP MIN_OFFSET MAX_OFFSET
BUYER_ID ORIGIN_MESSAGE_ID TRANSFER_FLAG CORRECTION_FLAG MQ2_FLAG RECONSUME_TIME UNIQ_KEY MAX_RECONSUME_TIMES CONSUME_START_TIME POP_CK
POP_CK_OFFSET 1ST_POP_TIME TRAN_PREPARED_QUEUE_OFFSET DUP_INFO EXTEND_UNIQ_INFO INSTANCE_ID CORRELATION_ID REPLY_TO_CLIENT TTL ARRIVE_TIME
PUSH_REPLY_TIME CLUSTER MSG_TYPE INNER_MULTI_QUEUE_OFFSET TIMER_DELAY_MS TIMER_DELAY_SEC TIMER_DELIVER_MS TIMER_ENQUEUE_MS TIMER_DEQUEUE_MS
TIMER_ROLL_TIMES TIMER_OUT_MS TIMER_DEL_UNIQKEY TIMER_DELAY_LEVEL __BORNHOST BORN_TIMESTAMP DLQ_ORIGIN_TOPIC DLQ_ORIGIN_MESSAGE_ID
__CRC32#""".split()

SYSTEM_TOPICS = """TBW102 SCHEDULE_TOPIC_XXXX BenchmarkTest RMQ_SYS_TRANS_HALF_TOPIC RMQ_SYS_TRACE_TOPIC RMQ_SYS_TRANS_OP_HALF_TOPIC
TRANS_CHECK_MAX_TIME_TOPIC SELF_TEST_TOPIC OFFSET_MOVED_EVENT CHECKPOINT_TOPIC rmq_sys_ rmq_sys_anything""".split()

BAD_TOPICS = ["", " ", "a" * 128, "a b", "a.b", "a/b", "ü", "a\n", "#"] + SYSTEM_TOPICS
BAD_GROUPS = ["", " ", "a" * 121, "a b", "a.b", "ü", "g\n", "CID_RMQ_SYS_", "CID_RMQ_SYS_x"]


def topic_verbs(topic):
    """Every verb that names a topic, with otherwise good arguments."""
    handle = dict(group=resource(GROUP), topic=resource(topic), receipt_handle="x", message_id="m")
    return {
        "QueryRoute": service.QueryRouteRequest(topic=resource(topic)),
        "SendMessage": service.SendMessageRequest(messages=[message(topic)]),
        "QueryAssignment": service.QueryAssignmentRequest(topic=resource(topic), group=resource(GROUP)),
        "ReceiveMessage": wire.receive_request(topic, GROUP),
        "AckMessage": service.AckMessageRequest(
            group=resource(GROUP), topic=resource(topic), entries=[service.AckMessageEntry(message_id="m", receipt_handle="x")]
        ),
        "ChangeInvisibleDuration": service.ChangeInvisibleDurationRequest(**handle, invisible_duration=duration(10)),
    }


def group_verbs(consumer_group):
    handle = dict(group=resource(consumer_group), topic=resource(GOOD), receipt_handle="x", message_id="m")
    return {
        "QueryAssignment": service.QueryAssignmentRequest(topic=resource(GOOD), group=resource(consumer_group)),
        "ReceiveMessage": wire.receive_request(GOOD, consumer_group),
        "AckMessage": service.AckMessageRequest(
            group=resource(consumer_group), topic=resource(GOOD), entries=[service.AckMessageEntry(message_id="m", receipt_handle="x")]
        ),
        "ChangeInvisibleDuration": service.ChangeInvisibleDurationRequest(**handle, invisible_duration=duration(10)),
        "Heartbeat": service.HeartbeatRequest(group=resource(consumer_group), client_type=definition.ClientType.SIMPLE_CONSUMER),
    }


LATER_VERBS = {
    "ForwardMessageToDeadLetterQueue": service.ForwardMessageToDeadLetterQueueRequest(
        group=resource(GROUP), topic=resource(GOOD), receipt_handle="x", message_id="m", delivery_attempt=1, max_delivery_attempts=1
    ),
    "EndTransaction": service.EndTransactionRequest(topic=resource(GOOD), message_id="m", transaction_id="t", resolution="COMMIT"),
    "RecallMessage": service.RecallMessageRequest(topic=resource(GOOD), recall_handle="h"),
    "PullMessage": service.PullMessageRequest(group=resource(GROUP), batch_size=1),
    "UpdateOffset": service.UpdateOffsetRequest(group=resource(GROUP), offset=1),
    "GetOffset": service.GetOffsetRequest(group=resource(GROUP)),
    "QueryOffset": service.QueryOffsetRequest(),
    "SyncLiteSubscription": service.SyncLiteSubscriptionRequest(topic=resource(GOOD), group=resource(GROUP)),
}


def code_of(door, verb, request, **options):
    answer = door.call(verb, request, **options)
    if isinstance(answer, list):
        assert answer, f"{verb} ended without any frame"
        answer = next(frame for frame in answer if frame.WhichOneof("content") == "status")
    assert answer.status.message, f"{verb}: a status without a text"
    return answer.status.code


@pytest.fixture(scope="module", autouse=True)
def topic_and_group(admin, door):
    admin.create_topic(GOOD, "mixed", 2)
    admin.create_consumer_group(GROUP)
    accepted(door, message(GOOD))


def refused(door, admin, request_or_message, code, topic=GOOD, **options):
    """The send answers `code`, and its topic holds what it held before."""
    before = admin.queues(topic)
    sent = request_or_message
    if not isinstance(sent, service.SendMessageRequest):
        sent = service.SendMessageRequest(messages=[sent])
    assert Code.Name(code_of(door, "SendMessage", sent, **options)) == Code.Name(code)
    assert admin.queues(topic) == before


def accepted(door, *messages, **options):
    answer = door.send(*messages, **options)
    assert Code.Name(answer.status.code) == "OK", answer.status.message
    assert [entry.message_id for entry in answer.entries] == [m.system_properties.message_id for m in messages]


# The client id.

ALL_UNARY = {**topic_verbs(GOOD), **group_verbs(GROUP), **LATER_VERBS, "NotifyClientTermination": service.NotifyClientTerminationRequest()}


@pytest.mark.parametrize("client_id", [None, "", "  "], ids=["absent", "empty", "blank"])
@pytest.mark.parametrize("verb", sorted(ALL_UNARY))
def test_client_id_is_required(door, verb, client_id):
    if client_id is None:
        stub = getattr(door.stub, verb)
        answer = stub(ALL_UNARY[verb], metadata=wire.metadata(client_id=None), timeout=10)
        answer = next(iter(answer)) if verb in ("ReceiveMessage", "PullMessage") else answer
        assert answer.status.code == Code.CLIENT_ID_REQUIRED and answer.status.message
    else:
        assert code_of(door, verb, ALL_UNARY[verb], client_id=client_id) == Code.CLIENT_ID_REQUIRED


def test_client_id_is_required_in_telemetry(door):
    command = service.TelemetryCommand()
    command.settings.publishing.topics.add(name=GOOD)
    stream = door.stub.Telemetry(iter([command]), metadata=wire.metadata(client_id=None), timeout=10)
    answer = next(stream)
    assert answer.status.code == Code.CLIENT_ID_REQUIRED
    assert answer.WhichOneof("command") is None


# Names.


@pytest.mark.parametrize("topic", BAD_TOPICS, ids=repr)
@pytest.mark.parametrize("verb", ["QueryRoute", "SendMessage"])
def test_bad_topic(door, verb, topic):
    assert Code.Name(code_of(door, verb, topic_verbs(topic)[verb])) == "ILLEGAL_TOPIC"


@pytest.mark.parametrize("verb", sorted(topic_verbs("")))
def test_bad_topic_in_every_verb(door, verb):
    assert Code.Name(code_of(door, verb, topic_verbs("not valid")[verb])) == "ILLEGAL_TOPIC"


@pytest.mark.parametrize("topic", ["a" * 127, "a-b_c%D|9", "TBW102x"])
def test_good_topic(door, topic):
    accepted(door, message(topic))


@pytest.mark.parametrize("consumer_group", BAD_GROUPS, ids=repr)
@pytest.mark.parametrize("verb", ["ReceiveMessage", "AckMessage"])
def test_bad_consumer_group(door, verb, consumer_group):
    assert Code.Name(code_of(door, verb, group_verbs(consumer_group)[verb])) == "ILLEGAL_CONSUMER_GROUP"


@pytest.mark.parametrize("verb", sorted(group_verbs("")))
def test_bad_consumer_group_in_every_verb(door, verb):
    assert Code.Name(code_of(door, verb, group_verbs("not valid")[verb])) == "ILLEGAL_CONSUMER_GROUP"


@pytest.mark.parametrize("consumer_group", ["g" * 120, "a-b_c%D|9"])
def test_good_consumer_group(door, consumer_group):
    assert code_of(door, "QueryAssignment", group_verbs(consumer_group)["QueryAssignment"]) == Code.OK


# Parts of a message.


@pytest.mark.parametrize("tag", [" ", "\t", "a|b", "|", "a\nb", "\x00", "a\x7f", "a\x9fb"], ids=repr)
def test_bad_tag(door, admin, tag):
    refused(door, admin, message(GOOD, tag=tag), Code.ILLEGAL_MESSAGE_TAG)


@pytest.mark.parametrize("tag", ["", "a", "a b", "ü", "a&b"], ids=repr)
def test_good_tag(door, tag):
    accepted(door, message(GOOD, tag=tag))


@pytest.mark.parametrize("keys", [[" "], ["good", "  "], ["a\nb"], ["\x01"]], ids=repr)
def test_bad_key(door, admin, keys):
    refused(door, admin, message(GOOD, keys=keys), Code.ILLEGAL_MESSAGE_KEY)


def test_good_keys(door):
    accepted(door, message(GOOD, keys=["a", "b c", "|", ""]))


@pytest.mark.parametrize("group", [" ", "a\tb", "g" * 64, "ü" * 32, "g" * 1000], ids=lambda g: repr(g[:8]) + str(len(g)))
def test_bad_message_group(door, admin, group):
    refused(door, admin, message(GOOD, message_group=group, message_type=definition.MessageType.FIFO), Code.ILLEGAL_MESSAGE_GROUP)


@pytest.mark.parametrize("group", ["g" * 63, "ü" * 31, "a b|c"], ids=lambda g: repr(g[:8]) + str(len(g)))
def test_good_message_group(door, group):
    accepted(door, message(GOOD, message_group=group, message_type=definition.MessageType.FIFO))


@pytest.mark.parametrize("key", RESERVED_PROPERTIES)
def test_reserved_property(door, admin, key):
    refused(door, admin, message(GOOD, properties={key: "v"}), Code.ILLEGAL_MESSAGE_PROPERTY_KEY)


@pytest.mark.parametrize("properties", [{"a\nb": "v"}, {"a": "v\x00"}, {"a": "\x7f"}], ids=repr)
def test_control_characters_in_properties(door, admin, properties):
    refused(door, admin, message(GOOD, properties=properties), Code.ILLEGAL_MESSAGE_PROPERTY_KEY)


def test_number_of_properties(door, admin):
    many = {f"k{n}": "v" for n in range(128)}
    accepted(door, message(GOOD, properties=many))
    refused(door, admin, message(GOOD, properties={**many, "one-more": "v"}), Code.MESSAGE_PROPERTIES_TOO_LARGE)


def test_bytes_of_properties_tag_and_keys(door, admin):
    limit = 16 * 1024
    full = dict(tag="t" * 10, keys=["k" * 20, "k" * 30], properties={"p": "v" * (limit - 61)})
    accepted(door, message(GOOD, **full))
    for part in (dict(tag="t" * 11), dict(keys=["k" * 21, "k" * 30]), dict(properties={"pp": "v" * (limit - 61)})):
        refused(door, admin, message(GOOD, **{**full, **part}), Code.MESSAGE_PROPERTIES_TOO_LARGE)


@pytest.mark.parametrize("message_id", ["", "  "], ids=repr)
def test_bad_message_id(door, admin, message_id):
    refused(door, admin, message(GOOD, message_id=message_id), Code.ILLEGAL_MESSAGE_ID)


def test_format_of_a_message_id_is_free(door):
    accepted(door, message(GOOD, message_id=f"any text {time.time_ns()}"))


def test_empty_body(door, admin):
    refused(door, admin, message(GOOD, body=b""), Code.MESSAGE_BODY_EMPTY)


def test_empty_body_from_a_client_that_cannot_read_the_code(door):
    code = code_of(door, "SendMessage", service.SendMessageRequest(messages=[message(GOOD, body=b"")]), language="RUST")
    assert code in (Code.MESSAGE_CORRUPTED, Code.BAD_REQUEST)


def test_body_limit(door, admin):
    accepted(door, message(GOOD, body=b"x" * (4 << 20)))
    refused(door, admin, message(GOOD, body=b"x" * ((4 << 20) + 1)), Code.MESSAGE_BODY_TOO_LARGE)
    refused(door, admin, message(GOOD, body=b"x" * (5 << 20)), Code.MESSAGE_BODY_TOO_LARGE)


def test_request_far_beyond_the_body_limit(door, admin):
    # So large that the broker refuses it unread; clients treat both codes alike.
    before = admin.queues(GOOD)
    request = service.SendMessageRequest(messages=[message(GOOD, body=b"x" * (40 << 20))])
    assert Code.Name(code_of(door, "SendMessage", request, timeout=30)) in ("MESSAGE_BODY_TOO_LARGE", "PAYLOAD_TOO_LARGE")
    assert admin.queues(GOOD) == before


def test_body_digest_is_checked_when_there_is_one(door, admin):
    wrong = definition.Digest(type=definition.DigestType.MD5, checksum="00")
    right = definition.Digest(type=definition.DigestType.MD5, checksum="841A2D689AD86BD1611447453C22C6FC")
    refused(door, admin, message(GOOD, body_digest=wrong), Code.MESSAGE_CORRUPTED)
    accepted(door, message(GOOD, body=b"body", body_digest=right))


def at(seconds_from_now):
    return Timestamp(seconds=int(time.time() + seconds_from_now))


DAY = 86400


def test_delivery_timestamp_beyond_the_horizon(door, admin):
    delay = dict(message_type=definition.MessageType.DELAY)
    refused(door, admin, message(GOOD, delivery_timestamp=at(40 * DAY + 600), **delay), Code.ILLEGAL_DELIVERY_TIME)


@pytest.mark.parametrize("seconds", [3600, 39 * DAY, -60])
def test_delayed_messages_are_not_there_yet(door, admin, seconds):
    delayed = message(GOOD, delivery_timestamp=at(seconds), message_type=definition.MessageType.DELAY)
    refused(door, admin, delayed, Code.NOT_IMPLEMENTED)


def test_orphaned_transaction_recovery_duration(door, admin):
    transaction = dict(message_type=definition.MessageType.TRANSACTION)
    late = message(GOOD, orphaned_transaction_recovery_duration=duration(3601), **transaction)
    refused(door, admin, late, Code.BAD_REQUEST)
    good = message(GOOD, orphaned_transaction_recovery_duration=duration(3600), **transaction)
    refused(door, admin, good, Code.NOT_IMPLEMENTED)


@pytest.mark.parametrize(
    "fields",
    [
        dict(message_type=definition.MessageType.TRANSACTION),
        dict(message_type=definition.MessageType.LITE, lite_topic="lite"),
        dict(message_type=definition.MessageType.PRIORITY, priority=1),
    ],
    ids=["transaction", "lite", "priority"],
)
def test_message_types_that_are_not_there_yet(door, admin, fields):
    refused(door, admin, message(GOOD, **fields), Code.NOT_IMPLEMENTED)


@pytest.mark.parametrize("verb", sorted(LATER_VERBS))
def test_verbs_that_are_not_there_yet(door, admin, verb):
    before = admin.queues(GOOD)
    assert Code.Name(code_of(door, verb, LATER_VERBS[verb])) == "NOT_IMPLEMENTED"
    assert admin.queues(GOOD) == before


# Batches and types.


def test_no_message(door, admin):
    refused(door, admin, service.SendMessageRequest(), Code.MESSAGE_CORRUPTED)


def test_messages_of_different_topics(door, admin):
    both = service.SendMessageRequest(messages=[message(GOOD), message("rules-other-topic")])
    refused(door, admin, both, Code.MESSAGE_CORRUPTED)


def test_batch_is_stored_whole(door, admin):
    before = sum(last for _, last in admin.queues(GOOD).values())
    accepted(door, *[message(GOOD, body=bytes([n + 1])) for n in range(10)])
    assert sum(last for _, last in admin.queues(GOOD).values()) == before + 10


@pytest.mark.parametrize("place", [0, 4, 9])
def test_batch_with_a_bad_message_is_refused_whole(door, admin, place):
    messages = [message(GOOD, tag="a|b" if n == place else "a") for n in range(10)]
    refused(door, admin, service.SendMessageRequest(messages=messages), Code.ILLEGAL_MESSAGE_TAG)


@pytest.mark.parametrize(
    "kind, fields",
    [
        ("normal", dict(message_group="g", message_type=definition.MessageType.FIFO)),
        ("fifo", dict()),
        ("delay", dict()),
        ("transaction", dict()),
    ],
    ids=["fifo to normal", "normal to fifo", "normal to delay", "normal to transaction"],
)
def test_message_type_conflict(door, admin, kind, fields):
    topic = f"rules-type-{kind}-{time.time_ns()}"
    admin.create_topic(topic, kind, 1)
    refused(door, admin, message(topic, **fields), Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE, topic=topic)


def test_type_comes_from_the_properties(door, admin):
    topic = f"rules-type-{time.time_ns()}"
    admin.create_topic(topic, "fifo", 1)
    accepted(door, message(topic, message_group="g"))


# Durations, filters, handles.


@pytest.mark.parametrize("seconds", [None, 0, 9.9, 12 * 3600 + 1, -1], ids=repr)
def test_bad_invisible_duration_of_a_receive(door, seconds):
    request = wire.receive_request(GOOD, GROUP, invisible_s=seconds)
    assert Code.Name(code_of(door, "ReceiveMessage", request)) == "ILLEGAL_INVISIBLE_TIME"


@pytest.mark.parametrize("seconds", [10, 12 * 3600])
def test_good_invisible_duration_of_a_receive(door, name, seconds):
    code, _ = door.receive(GOOD, name("cg"), batch=1, invisible_s=seconds)
    assert code == Code.OK


def test_invisible_duration_does_not_matter_with_auto_renew(door, name):
    code, found = door.receive(GOOD, name("cg"), batch=1, invisible_s=1, auto_renew=True)
    assert code == Code.OK and found


@pytest.mark.parametrize("seconds", [-1, 12 * 3600 + 1])
def test_bad_duration_of_a_change(door, seconds):
    request = topic_verbs(GOOD)["ChangeInvisibleDuration"]
    request.invisible_duration.CopyFrom(duration(seconds))
    assert Code.Name(code_of(door, "ChangeInvisibleDuration", request)) == "ILLEGAL_INVISIBLE_TIME"


def test_empty_sql_filter(door):
    request = wire.receive_request(GOOD, GROUP, tag="")
    request.filter_expression.type = definition.FilterType.SQL
    assert Code.Name(code_of(door, "ReceiveMessage", request)) == "ILLEGAL_FILTER_EXPRESSION"


def test_sql_filter_is_not_there_yet(door):
    request = wire.receive_request(GOOD, GROUP, tag="a > 1")
    request.filter_expression.type = definition.FilterType.SQL
    assert Code.Name(code_of(door, "ReceiveMessage", request)) == "NOT_IMPLEMENTED"


@pytest.mark.parametrize("handle", ["", "x", "1 2 3 4 5 6 7 8 9", "\x00", "ü" * 100], ids=lambda h: repr(h[:9]))
def test_bad_receipt_handle(door, handle):
    entry = service.AckMessageEntry(message_id="m", receipt_handle=handle)
    answer = door.call("AckMessage", service.AckMessageRequest(group=resource(GROUP), topic=resource(GOOD), entries=[entry]))
    assert Code.Name(answer.status.code) == "INVALID_RECEIPT_HANDLE"
    assert [(e.message_id, e.receipt_handle, e.status.code) for e in answer.entries] == [("m", handle, Code.INVALID_RECEIPT_HANDLE)]
    change = service.ChangeInvisibleDurationRequest(
        group=resource(GROUP), topic=resource(GOOD), receipt_handle=handle, message_id="m", invisible_duration=duration(10)
    )
    answer = door.call("ChangeInvisibleDuration", change)
    assert Code.Name(answer.status.code) == "INVALID_RECEIPT_HANDLE"
    assert answer.receipt_handle == handle


def test_handle_of_another_message_with_one_letter_changed(door, name):
    code, found = door.receive(GOOD, name("cg"), batch=1)
    assert code == Code.OK
    handle = found[0].system_properties.receipt_handle
    for place in {0, len(handle) // 2, len(handle) - 1}:
        changed = handle[:place] + ("0" if handle[place] != "0" else "1") + handle[place + 1:]
        entry = service.AckMessageEntry(message_id="m", receipt_handle=changed)
        answer = door.call("AckMessage", service.AckMessageRequest(group=resource(GROUP), topic=resource(GOOD), entries=[entry]))
        assert Code.Name(answer.status.code) == "INVALID_RECEIPT_HANDLE"


def test_ack_without_entries_is_an_error(door):
    answer = door.call("AckMessage", service.AckMessageRequest(group=resource(GROUP), topic=resource(GOOD)))
    assert answer.status.code not in (Code.OK, Code.CODE_UNSPECIFIED)


def test_polling_time_that_the_deadline_cannot_hold(door):
    request = wire.receive_request(GOOD, GROUP, poll_s=20)
    code = code_of(door, "ReceiveMessage", request, timeout=3)
    assert Code.Name(code) == "ILLEGAL_POLLING_TIME"


def test_polling_time_for_a_client_too_old_for_the_code(door):
    request = wire.receive_request(GOOD, GROUP, poll_s=20)
    assert Code.Name(code_of(door, "ReceiveMessage", request, timeout=3, version="5.0.2")) == "BAD_REQUEST"


# Calls of clients that were never seen, or say little of themselves.


@pytest.mark.parametrize("kind, code", [(0, "UNRECOGNIZED_CLIENT_TYPE"), (1, "OK"), (2, "OK"), (3, "OK"), (4, "OK"), (5, "OK"), (6, "OK")])
def test_heartbeat_of_a_client_never_seen(door, name, kind, code):
    request = service.HeartbeatRequest(client_type=kind)
    if kind != 1:
        request.group.name = GROUP
    assert Code.Name(code_of(door, "Heartbeat", request, client_id=name("client"))) == code


def test_unknown_languages_and_missing_headers_do_not_matter(door):
    accepted(door, message(GOOD), language="KLINGON")
    answer = door.stub.SendMessage(
        service.SendMessageRequest(messages=[message(GOOD)]), metadata=[("x-mq-client-id", "bare"), ("x-mq-client-id", "twice")], timeout=10
    )
    assert answer.status.code == Code.OK
