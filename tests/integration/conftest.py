import pytest

from harness import Authority, Homeserver, Origin, Router


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def homeserver():
    server = Homeserver("a.example")
    yield server
    server.stop()


@pytest.fixture
def origin(ca):
    server = Origin(ca)
    yield server
    server.stop()


@pytest.fixture
def start_router(ca, homeserver):
    """Starts a router before the homeserver (or others); each is ended, and must end well, after the test."""
    routers = []

    def start(homeservers=None, wait=True, **options):
        router = Router(homeservers or [homeserver], ca=ca, **options)
        routers.append(router)
        return router.start(wait)

    yield start
    for router in routers:
        router.close()


@pytest.fixture
def router(start_router):
    return start_router()


class Untouched:
    """Not one byte may reach a homeserver while this lasts."""

    def __init__(self, homeserver):
        self._homeserver = homeserver

    def __enter__(self):
        self._before = self._homeserver.n_bytes, len(self._homeserver.requests)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            now = self._homeserver.n_bytes, len(self._homeserver.requests)
            assert now == self._before, f"reached the homeserver: {self._homeserver.requests[self._before[1]:]}"


@pytest.fixture
def untouched():
    return Untouched
