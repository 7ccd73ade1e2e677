"""One cluster of three replicas for the whole session; names that no other test uses; clients that are shut down."""

import os
import uuid

import pytest
import wire
from replicas import Cluster
from rocketmq import ClientConfiguration, Credentials, FilterExpression, Producer, PushConsumer, SimpleConsumer


@pytest.fixture(scope="session")
def access_points():
    """Addresses of the replicas: of LEDGERMQ_TEST_ENDPOINTS, a cluster that runs already, or of our own."""
    given = os.environ.get("LEDGERMQ_TEST_ENDPOINTS")
    if given:
        yield given.split(";")
        return
    with Cluster() as cluster:
        cluster.wait_healthy()
        yield [replica.access_point for replica in cluster.replicas.values()]


@pytest.fixture(scope="session")
def door(access_points):
    with wire.Door(access_points[0]) as door:
        yield door


@pytest.fixture(scope="session")
def admin(access_points):
    administration = wire.Administration(access_points[0])
    yield administration
    administration.close()


@pytest.fixture
def name():
    """A fresh name for a topic or a consumer group."""
    return lambda prefix="t": f"{prefix}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def clients(access_points):
    """Makes official clients with default settings; shuts them down in the end."""
    made = Clients(access_points[0])
    yield made
    made.shutdown()


class Clients:
    def __init__(self, access_point):
        self.access_point = access_point
        self.running = []

    def configuration(self):
        return ClientConfiguration(self.access_point, Credentials())

    def _start(self, client):
        client.startup()
        self.running.append(client)
        return client

    def producer(self, *topics):
        return self._start(Producer(self.configuration(), topics))

    def simple(self, consumer_group, topic, tag="*", await_duration=5):
        subscription = {topic: FilterExpression(tag)}
        return self._start(SimpleConsumer(self.configuration(), consumer_group, subscription, await_duration))

    def push(self, consumer_group, topic, listener, tag="*"):
        return self._start(PushConsumer(self.configuration(), consumer_group, listener, {topic: FilterExpression(tag)}))

    def shutdown(self):
        for client in self.running:
            if client.is_running:
                client.shutdown()
