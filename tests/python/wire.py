"""Calls below the official client: its own generated stubs, with the headers chosen by the test; and the administration."""

import functools
import hashlib
import importlib
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from rocketmq.grpc_protocol import definition_pb2 as definition
from rocketmq.grpc_protocol import service_pb2 as service
from rocketmq.grpc_protocol import service_pb2_grpc

Code = definition.Code
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


def metadata(client_id="tests@1", language="PYTHON", version="5.1.2"):
    pairs = [("x-mq-language", language), ("x-mq-client-version", version), ("x-mq-protocol", "v2")]
    return pairs + ([("x-mq-client-id", client_id)] if client_id is not None else [])


class Door:
    """One replica's access point, and calls to it."""

    def __init__(self, access_point, client_id=None, language="PYTHON"):
        self.access_point = access_point
        self.client_id = client_id or f"tests@{uuid.uuid4().hex}"
        self.language = language
        self.channel = grpc.insecure_channel(f"ipv4:{access_point}", options=OPTIONS)
        self.stub = service_pb2_grpc.MessagingServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, verb, request, timeout=10.0, **headers):
        """One unary call; for server streams the list of its frames."""
        headers.setdefault("client_id", self.client_id)
        headers.setdefault("language", self.language)
        answer = getattr(self.stub, verb)(request, metadata=metadata(**headers), timeout=timeout)
        return list(answer) if verb in ("ReceiveMessage", "PullMessage") else answer

    def send(self, *messages, **options):
        return self.call("SendMessage", service.SendMessageRequest(messages=messages), **options)

    def receive(self, topic, consumer_group, batch=32, invisible_s=30.0, poll_s=5.0, tag="*", attempt_id=None, auto_renew=False, queue_id=0, timeout=None, **headers):
        """(code, messages) of one receive."""
        request = receive_request(topic, consumer_group, batch, invisible_s, poll_s, tag, attempt_id, auto_renew, queue_id)
        frames = self.call("ReceiveMessage", request, timeout=timeout or poll_s + 5.0, **headers)
        assert frames, "a receive ended without any frame"
        statuses = [frame.status for frame in frames if frame.WhichOneof("content") == "status"]
        assert statuses, "a receive ended without a status"
        assert all(status.message for status in statuses), "a status without a text"
        return statuses[0].code, [frame.message for frame in frames if frame.WhichOneof("content") == "message"]

    def ack(self, topic, consumer_group, *messages, **options):
        entries = [
            service.AckMessageEntry(message_id=m.system_properties.message_id, receipt_handle=m.system_properties.receipt_handle)
            for m in messages
        ]
        request = service.AckMessageRequest(group=resource(consumer_group), topic=resource(topic), entries=entries)
        return self.call("AckMessage", request, **options)


def resource(name):
    return definition.Resource(name=name)


def duration(seconds):
    whole = int(seconds // 1)
    return Duration(seconds=whole, nanos=int(round((seconds - whole) * 1e9)))


def message(topic, body=b"body", message_id=None, **system):
    """A message as the official client would send it; `system` sets or replaces system properties."""
    properties = system.pop("properties", {})
    found = definition.Message(topic=resource(topic), body=body, user_properties=properties)
    found.system_properties.message_id = message_id if message_id is not None else new_message_id()
    found.system_properties.message_type = definition.MessageType.NORMAL
    found.system_properties.body_encoding = definition.Encoding.IDENTITY
    found.system_properties.born_timestamp.GetCurrentTime()
    found.system_properties.born_host = "127.0.0.1"
    for name, value in system.items():
        field = getattr(found.system_properties, name)
        if name == "keys":
            field.extend(value)
        elif hasattr(field, "CopyFrom"):
            field.CopyFrom(value)
        else:
            setattr(found.system_properties, name, value)
    return found


def new_message_id():
    return "01" + uuid.uuid4().hex.upper()


def receive_request(topic, consumer_group, batch=32, invisible_s=30.0, poll_s=5.0, tag="*", attempt_id=None, auto_renew=False, queue_id=0):
    request = service.ReceiveMessageRequest(group=resource(consumer_group), batch_size=batch, auto_renew=auto_renew)
    request.message_queue.topic.name = topic
    request.message_queue.id = queue_id
    request.filter_expression.type = definition.FilterType.TAG
    request.filter_expression.expression = tag
    if invisible_s is not None:
        request.invisible_duration.CopyFrom(duration(invisible_s))
    if poll_s is not None:
        request.long_polling_timeout.CopyFrom(duration(poll_s))
    if attempt_id:
        request.attempt_id = attempt_id
    return request


def python_queue_address(queues, message_group):
    """Where the official Python client sends a message group: SHA-256 of it, modulo the queues of the route."""
    number = int.from_bytes(hashlib.sha256(message_group.encode()).digest(), "big")
    address = queues[number % len(queues)].broker.endpoints.addresses[0]
    return f"{address.host}:{address.port}"


def route(door, topic, **headers):
    request = service.QueryRouteRequest(topic=resource(topic))
    request.endpoints.scheme = definition.AddressScheme.IPv4
    host, port = door.access_point.rsplit(":", 1)
    request.endpoints.addresses.add(host=host, port=int(port))
    return door.call("QueryRoute", request, **headers)


@functools.cache
def admin_modules():
    """The messages and stubs of the administration, generated from proto/ into a temporary folder."""
    from grpc_tools import protoc

    protos = Path(__file__).resolve().parents[2] / "proto" / "proto"
    source = protos / "ledgermq" / "admin" / "v1" / "admin.proto"
    with tempfile.TemporaryDirectory() as out:
        arguments = ["", f"-I{protos}", f"--python_out={out}", f"--grpc_python_out={out}", str(source)]
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"cannot compile {source}")
        sys.path.insert(0, out)
        try:
            name = str(source.relative_to(protos).with_suffix("")).replace("/", ".")
            return importlib.import_module(name + "_pb2"), importlib.import_module(name + "_pb2_grpc")
        finally:
            sys.path.remove(out)


class Administration:
    def __init__(self, access_point):
        self.messages, stubs = admin_modules()
        self.channel = grpc.insecure_channel(f"ipv4:{access_point}")
        self.stub = stubs.AdminStub(self.channel)

    def close(self):
        self.channel.close()

    def queues(self, topic):
        """{(broker group, queue id): (first offset, next offset)}."""
        answer = self.stub.DescribeTopic(self.messages.DescribeTopicRequest(name=topic), timeout=10)
        return {(q.broker_group, q.queue_id): (q.first_offset, q.next_offset) for q in answer.queues}

    def lag(self, consumer_group):
        answer = self.stub.DescribeConsumerGroup(self.messages.DescribeConsumerGroupRequest(name=consumer_group), timeout=10)
        return sum(progress.lag for progress in answer.progress)

    def create_topic(self, name, kind="mixed", queues=8):
        self.stub.CreateTopic(self.messages.CreateTopicRequest(name=name, type=kind, queues=queues), timeout=10)

    def create_consumer_group(self, name, fifo=False, max_attempts=0, start="earliest"):
        request = self.messages.CreateConsumerGroupRequest(name=name, fifo=fifo, max_attempts=max_attempts)
        setattr(request, "from", start)
        self.stub.CreateConsumerGroup(request, timeout=10)


def read_everything(access_points, topic, threads=6, timeout=600.0):
    """Every message that a topic holds now, by a fresh consumer group, as protocol messages.

    Leases are long, so nothing comes twice; an answer that was lost on its way takes its messages with it, so what is missing
    in the end is read again by another consumer group.
    """
    admin = Administration(access_points[0])
    bounds = {queue_id: bounds for (_, queue_id), bounds in admin.queues(topic).items()}
    wanted = {(queue_id, offset) for queue_id, (first, last) in bounds.items() for offset in range(first, last)}
    found, deadline = {}, time.monotonic() + timeout
    for _ in range(3):
        if wanted <= found.keys():
            break
        consumer_group = f"reader-{uuid.uuid4().hex[:12]}"
        admin.create_consumer_group(consumer_group)
        _read_once(access_points, topic, consumer_group, threads, wanted, found, deadline)
    admin.close()
    return list(found.values())


def _read_once(access_points, topic, consumer_group, threads, wanted, found, deadline):
    """Reads until all that is wanted was found, or nothing more comes."""
    missing = set(wanted) - found.keys()

    def read(number):
        with Door(access_points[number % len(access_points)]) as door:
            while missing and time.monotonic() < deadline:
                try:
                    code, messages = door.receive(topic, consumer_group, invisible_s=36000.0, poll_s=5.0)
                except grpc.RpcError:
                    time.sleep(0.2)
                    continue
                for message in messages:
                    place = (message.system_properties.queue_id, message.system_properties.queue_offset)
                    found[place] = message
                    missing.discard(place)
                if code == Code.MESSAGE_NOT_FOUND:
                    return
                if code != Code.OK:
                    time.sleep(0.2)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))
