"""A bucket on the loopback, for all tests of this folder."""

import re

import pytest

from genjax.places import bucket, place
from tests.storage.server import BUCKET, serving


@pytest.fixture(scope="session")
def served():
    """One server a process: the clients keep the address that they saw first."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server
        bucket._client()._http.close()  # its sockets


@pytest.fixture
def server(served):
    """The server, without faults."""
    served.fault = lambda method, target: None
    yield served
    served.fault = lambda method, target: None


@pytest.fixture
def folder(server, request):
    """A folder of the bucket for this test alone."""
    del server
    return place(f"gs://{BUCKET}/{re.sub(r'[^a-z0-9]+', '-', request.node.name)}")
