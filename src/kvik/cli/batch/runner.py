"""Asks an application all lines of a batch, a bounded number at once. Knows no engine and no flag."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp

from kvik.cli.batch.asgi import post
from kvik.cli.batch.files import BatchLine, ResultWriter


async def run_lines(
    app: ASGIApp,
    lines: Sequence[BatchLine],
    writer: ResultWriter,
    *,
    max_open: int,
    headers: dict[str, str],
    is_dead: Callable[[], bool],
    advance: Callable[[], None],
) -> int:
    """Answer `lines` and write each result as it comes; returns how many of them are errors.

    When the engine dies, what it could not answer is written nowhere: the next run asks it again.
    """
    waiting = iter(lines)
    num_errors = 0

    async def worker() -> None:
        nonlocal num_errors
        for line in waiting:
            status, body = await post(app, line.url, json.dumps(line.body).encode(), headers)
            if is_dead():
                return
            num_errors += status != 200
            writer.write(line.custom_id, *_result(status, body))
            advance()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(max_open, len(lines))):
            group.create_task(worker())
    return num_errors


def _result(status: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """`response` and `error` of an output line."""
    answer = json.loads(body)
    response = {"status_code": status, "request_id": f"batch-{secrets.token_hex(8)}", "body": answer}
    error = answer.get("error", answer) if status != 200 and isinstance(answer, dict) else None
    return response, error if isinstance(error, dict) or error is None else {"message": str(error)}
