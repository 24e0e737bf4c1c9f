"""A small HTTP client of a running server for `kvik chat` and `kvik complete`: the standard library, and SSE.

Knows the OpenAI-compatible endpoints that these two need, and nothing of the engine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from kvik.config import env
from kvik.config.flags import Flag, flag
from kvik.errors import KvikError

DONE = "[DONE]"


@dataclass(frozen=True, kw_only=True)
class ClientArgs:
    """What both commands take."""

    url: str = flag("http://localhost:8000/v1", "the server's address with its /v1")
    model_name: str | None = flag(None, "model to ask; unset: the first that the server names")
    api_key: str | None = flag(None, "key of the server; unset: KVIK_API_KEY")
    quick: str | None = flag(None, "ask this once and leave", aliases=("-q",))
    max_tokens: int | None = flag(None, "most tokens of an answer; unset: the server's default")
    stats: bool = flag(False, "after each answer, its tokens and their speed", kind="switch")


HELP = Flag("help", "str", None, "this text", "", aliases=("-h",))


@dataclass
class Answer:
    """One streamed answer, complete once its iterator is exhausted."""

    pieces: list[str] = field(default_factory=list)
    num_tokens: int | None = None
    """As the server counts them; None where it does not say."""
    first_piece_s: float | None = None
    """Seconds from the question to the first piece."""
    total_s: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def stats_line(self) -> str:
        """Time to the first token, tokens, and tokens per second after the first."""
        first = "-" if self.first_piece_s is None else f"{self.first_piece_s:.3f} s"
        decode_s = self.total_s - (self.first_piece_s or 0.0)
        speed = f"{(self.num_tokens - 1) / decode_s:.1f}" if self.num_tokens and decode_s > 0 else "-"
        return f"[first token {first}; {self.num_tokens or '-'} tokens in {self.total_s:.3f} s; {speed} tokens/s]"


class Client:
    """Talks to one server. Every method raises `KvikError` with the server's own words where it refuses."""

    def __init__(self, args: ClientArgs) -> None:
        self._url = args.url.rstrip("/")
        key = args.api_key or env.api_key()
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def first_model(self) -> str:
        """The first model that the server names."""
        with self._open("/models", None) as response:
            names = [str(entry["id"]) for entry in json.load(response)["data"]]
        if not names:
            raise KvikError(f"{self._url} serves no model")
        return names[0]

    def stream(self, path: str, body: Mapping[str, Any], answer: Answer) -> Iterator[str]:
        """Yield the pieces of a streamed answer of `path` and note them, with their times, in `answer`."""
        start_s = time.monotonic()
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with self._open(path, body) as response:
            for event in sse_events(response):
                if piece := _piece(event, answer):
                    if answer.first_piece_s is None:
                        answer.first_piece_s = time.monotonic() - start_s
                    answer.pieces.append(piece)
                    yield piece
        answer.total_s = time.monotonic() - start_s

    def _open(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            return urlopen(Request(self._url + path, data=data, headers=self._headers))
        except HTTPError as e:
            raise KvikError(f"{self._url}{path} answers {e.code}: {_error_message(e.read())}") from None
        except URLError as e:
            raise KvikError(
                f"cannot reach {self._url}: {e.reason}; is --url right? kvik serve starts a server"
            ) from None
        except ValueError as e:
            raise KvikError(f"--url {self._url} is no address: {e}") from None


def sse_events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to its [DONE]. Comment lines are passed over."""
    for line in lines:
        name, _, data = line.decode().rstrip("\r\n").partition(":")
        if name != "data":
            continue
        if data.strip() == DONE:
            return
        event = json.loads(data)
        if "error" in event:
            raise KvikError(f"the stream ended with an error: {event['error'].get('message', event['error'])}")
        yield event


def _piece(event: Mapping[str, Any], answer: Answer) -> str:
    if usage := event.get("usage"):
        answer.num_tokens = usage.get("completion_tokens")
    choices = event.get("choices") or [{}]
    return choices[0].get("text") or (choices[0].get("delta") or {}).get("content") or ""


def _error_message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]
