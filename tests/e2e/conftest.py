import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from harness import Authority, Origin, Relay, Router  # noqa: E402  (the path above comes first)
from synapse import Client, Synapse  # noqa: E402


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def synapse(tmp_path_factory, ca):
    server = Synapse(tmp_path_factory.mktemp("synapse"), ca)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def relay(synapse):
    """Stands between the router and Synapse and counts."""
    proxy = Relay(synapse.address)
    proxy.name, proxy.router_key = synapse.name, synapse.router_key
    yield proxy
    proxy.stop()


@pytest.fixture
def router(relay, ca):
    server = Router([relay], ca=ca, lists={"max_age_s": 0})
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def origin(ca):
    server = Origin(ca)
    yield server
    server.stop()


@pytest.fixture
def alice(synapse, request):
    """One device of a user of this test's own."""
    fixture_name = "".join(char for char in request.node.name.lower() if char.isalnum())[-60:]
    return Client(synapse, synapse.register(f"alice.{fixture_name}"))
