"""Streams of all kinds at once, each recorded as a client sees it: what must come out the same whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.server import MODEL

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 24},
        "age": {"type": "integer"},
        "isAlive": {"type": "boolean"},
    },
    "required": ["name", "age", "isAlive"],
    "additionalProperties": False,
}


@dataclass
class Answer:
    """One choice of a stream."""

    text: str = ""
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class Record:
    """One stream, joined."""

    status: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    usage: Any = None
    error: Any = None
    is_complete: bool = False
    """The end of the stream has come."""

    def choice(self, index: int) -> Answer:
        return self.answers.setdefault(index, Answer())


def chat(i: int, max_tokens: int, **more: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": f"Tell story number {i} about a ship, a storm and a cat."}]
    return "/v1/chat/completions", dict(messages=messages, max_tokens=max_tokens, **more)


def completion(i: int, max_tokens: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", dict(prompt=f"Chapter {i}. It was a night when", max_tokens=max_tokens, **more)


KINDS: tuple[Callable[[int], tuple[str, dict[str, Any]]], ...] = (
    lambda i: chat(i, 60, temperature=0),
    lambda i: completion(i, 50, temperature=0.8, seed=i, n=2, ignore_eos=True),
    lambda i: chat(i, 90, temperature=0, response_format={
        "type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}),
    lambda i: completion(i, 40, temperature=0, logprobs=2, ignore_eos=True),
    lambda i: chat(i, 60, temperature=1.1, top_p=0.9, seed=7 * i, presence_penalty=0.5, logprobs=True, top_logprobs=1),
    lambda i: completion(i, 50, temperature=0.7, seed=3, stop=[" and the", "ing "], repetition_penalty=1.2),
    lambda i: completion(i, 20, temperature=0, echo=True, logprobs=1, ignore_eos=True),
    lambda i: chat(i, 70, temperature=0.9, seed=i, min_p=0.05, min_tokens=30, frequency_penalty=0.3),
)  # fmt: skip


def mixed_requests(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Paths and bodies: greedy and seeded, with grammars, logprobs, stop strings, penalties and two answers."""
    made = []
    for i in range(count):
        path, body = KINDS[i % len(KINDS)](i)
        made.append((path, dict(body, model=MODEL, stream=True, stream_options={"include_usage": True})))
    return made


async def stream_all(port: int, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[Record]:
    """All at once; records in their order."""
    limits = httpx.Limits(max_connections=len(requests) + 8)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=180) as client:
        return await asyncio.gather(*(record_stream(client, path, body) for path, body in requests))


async def record_stream(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Record:
    record = Record()
    async with client.stream("POST", path, json=body, headers=headers) as answer:
        record.status = answer.status_code
        if answer.status_code != 200:
            record.error = json.loads(await answer.aread())
            return record
        async for data in _events(answer):
            if data == "[DONE]":
                record.is_complete = True
            else:
                _take(record, json.loads(data))
    return record


async def _events(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def _take(record: Record, chunk: dict[str, Any]) -> None:
    if "error" in chunk:
        record.error = chunk["error"]
        return
    record.usage = chunk.get("usage") or record.usage
    for choice in chunk["choices"]:
        answer = record.choice(choice["index"])
        delta = choice.get("delta")
        answer.text += choice["text"] if delta is None else delta.get("content") or ""
        answer.finish_reason = choice["finish_reason"] or answer.finish_reason
        _take_logprobs(answer, choice.get("logprobs"))


def _take_logprobs(answer: Answer, logprobs: Any) -> None:
    """Both shapes: a list of positions, or lists side by side."""
    if not logprobs:
        return
    if "content" in logprobs:
        answer.logprobs += [(p["token"], p["logprob"]) for p in logprobs["content"]]
    else:
        columns = (logprobs["tokens"], logprobs["token_logprobs"], logprobs["text_offset"])
        answer.logprobs += list(zip(*columns, strict=True))
