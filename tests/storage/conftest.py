"""A bucket on the loopback, for all tests of this folder."""

import gc
import re
from pathlib import Path

import pytest

from genjax.places import bucket, place
from tests.storage.server import BUCKET, serving

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def served():
    """One server a process: the clients keep the address that they saw first."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server
        bucket._client()._http.close()  # its sockets


def calm(method, target):
    """No fault."""


@pytest.fixture
def server(served):
    """The server, without faults."""
    served.fault = calm
    yield served
    if served.fault is not calm:
        served.fault = calm
        gc.collect()  # sockets of broken connections, here and not in a later test


def pytest_collection_modifyitems(items):
    """The clients leave broken connections to the garbage collector."""
    unclosed = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(unclosed)


@pytest.fixture
def folder(server, request):
    """A folder of the bucket for this test alone."""
    del server
    return place(f"gs://{BUCKET}/{re.sub(r'[^a-z0-9]+', '-', request.node.name)}")
