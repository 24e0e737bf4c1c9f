"""Lines against an application that counts how many requests are open."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

from starlette.types import Receive, Scope, Send

from kvik.cli.batch.files import BatchLine
from kvik.cli.batch.runner import run_lines


class Writer:
    def __init__(self) -> None:
        self.lines: dict[str | None, tuple[Any, Any]] = {}

    def write(self, custom_id: str | None, response: Any, error: Any) -> None:
        self.lines[custom_id] = (response, error)


class App:
    """Answers what the body says in "status"; is dead after `lives` requests."""

    def __init__(self, lives: int = 100) -> None:
        self.num_open = self.most_open = 0
        self.lives = lives

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        body = json.loads((await receive())["body"])
        await asyncio.sleep(0)
        self.num_open -= 1
        self.lives -= 1
        status = body["status"]
        answer = {"path": scope["path"]} if status == 200 else {"error": {"message": "no"}}
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def run(app: App, statuses: list[int]) -> tuple[int, Writer, int]:
    writer, advanced = Writer(), io.StringIO()
    lines = [BatchLine(str(i), "/v1/completions", {"status": status}) for i, status in enumerate(statuses)]
    num_errors = asyncio.run(
        run_lines(
            app, lines, writer,  # type: ignore[arg-type]
            max_open=2, headers={}, is_dead=lambda: app.lives <= 0, advance=lambda: advanced.write(".") and None,
        )
    )  # fmt: skip
    return num_errors, writer, len(advanced.getvalue())


def test_all_lines_are_answered_a_few_at_once() -> None:
    app = App()
    num_errors, writer, num_advanced = run(app, [200, 400, 200, 200])
    assert (num_errors, num_advanced, app.most_open) == (1, 4, 2)
    response, error = writer.lines["1"]
    assert response["status_code"] == 400
    assert error == {"message": "no"}
    response, error = writer.lines["0"]
    assert response["body"] == {"path": "/v1/completions"}
    assert error is None


def test_what_a_dead_engine_left_is_not_written() -> None:
    _, writer, _ = run(App(lives=2), [200, 200, 200, 200])
    assert set(writer.lines) <= {"0"}
