"""Rows of docs/limits.md that have no place elsewhere."""
from harness import Answer
from test_http2 import Raw, frames, with_


def test_the_hundred_and_first_stream_is_reset_and_counted(router, homeserver):
    homeserver.on("/_matrix/federation/v1/x", Answer(200, b"{}"))
    with Raw(router) as raw:
        for number in range(101):
            raw.send(raw.headers(2 * number + 1, with_(method="POST", path="/_matrix/federation/v1/x"), ("END_HEADERS",)))
        assert raw.until(frames.RstStreamFrame).stream_id == 201
        assert router.metric("freshet_refused_total", reason="h2_streams") == router.metric("freshet_refused_total") == 1
        data = frames.DataFrame(1, data=b"x")
        data.flags.add("END_STREAM")
        raw.send(data.serialize())  # it cost one stream, not the connection
        assert raw.until(frames.DataFrame, 1).data == b"{}"
    assert len(homeserver.of("/_matrix/federation/v1/x")) == 1
