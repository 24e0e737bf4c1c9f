"""GET /debug/requests."""

from __future__ import annotations

from collections.abc import Callable

from kvik.engine_client.live_requests import LiveReport, LiveRequest
from support.server_without_engine import Server

WAITS = LiveRequest(
    request_id="cmpl-a", index=0, state="waiting", waiting_for="slots", position=3, age_s=1.5, num_prompt_tokens=10,
    num_cached_tokens=4, num_output_tokens=0, num_blocks=None, num_preemptions=0, priority=0, lora=None, caller="team",
)  # fmt: skip


def test_all_that_is_known_is_told(server: Server) -> None:
    server.llm.live = LiveReport("busy", [WAITS])
    body = server.http.get("/debug/requests").json()
    assert body["engine"] == "busy"
    assert body["requests"] == [{name: getattr(WAITS, name) for name in LiveRequest.__slots__}]


def test_also_while_the_server_goes_down(server: Server) -> None:
    server.state.is_draining = True
    assert server.http.get("/debug/requests").status_code == 200


def test_it_is_for_admins(serve: Callable[..., Server]) -> None:
    server = serve(api_key=("sesame",))
    assert server.http.get("/debug/requests").status_code == 401
    assert server.http.get("/debug/requests", headers={"x-api-key": "sesame"}).status_code == 200
