import pytest

from harness import Authority, Homeserver, Origin, Router, Untouched


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


@pytest.fixture
def untouched():
    return Untouched
