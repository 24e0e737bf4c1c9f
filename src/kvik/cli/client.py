"""A small HTTP client of a running server for `kvik chat` and `kvik complete`: the standard library, and SSE.

Knows the OpenAI-compatible endpoints that these two need, and nothing of the engine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from kvik.cli.answer import Answer, Piece
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


class Client:
    """Talks to one server. Every method raises `KvikError` with the server's own words where it refuses."""

    def __init__(self, args: ClientArgs) -> None:
        self._url = args.url.rstrip("/")
        key = args.api_key or env.api_key()
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def first_model(self) -> str:
        """The first model that the server names."""
        names = self.models()
        if not names:
            raise KvikError(f"{self._url} serves no model")
        return names[0]

    def models(self) -> list[str]:
        """All that the server names."""
        with self._open("/models", None) as response:
            content = response.read()
        try:
            return [str(entry["id"]) for entry in json.loads(content)["data"]]
        except (ValueError, KeyError, TypeError):
            raise KvikError(
                f"{self._url}/models answers with no list of models; is --url the address of an OpenAI-compatible "
                "server, with its /v1?"
            ) from None

    def stream(self, path: str, body: Mapping[str, Any], answer: Answer) -> Generator[Piece, None, None]:
        """Yield the pieces of a streamed answer of `path`; what they are and when they came is noted in `answer`."""
        start_s = time.monotonic()
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with self._open(path, body) as response:
            for event in sse_events(_lines(response, self._url)):
                yield from answer.take(event, time.monotonic() - start_s)
        answer.total_s = time.monotonic() - start_s

    def _open(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            return urlopen(Request(self._url + path, data=data, headers=self._headers))
        except HTTPError as e:
            with e:
                words = _error_message(e.read())
            raise KvikError(f"{self._url}{path} answers {e.code}: {words}{self._hint(e.code, path)}") from None
        except (OSError, HTTPException) as e:
            reason = e.reason if isinstance(e, URLError) else e
            raise KvikError(f"cannot reach {self._url}: {reason}; is --url right? kvik serve starts a server") from None
        except ValueError as e:
            raise KvikError(f"--url {self._url} is no address: {e}") from None

    def _hint(self, status: int, path: str) -> str:
        """What to do about an answer of this status; begins with a semicolon."""
        if status == 401:
            return "; give the server's key with --api-key or in KVIK_API_KEY"
        if status != 404:
            return ""
        if path == "/models":
            return "; --url is the server's address with its /v1"
        try:
            return f"; --model-name can be {', '.join(self.models())}"
        except KvikError:
            return ""


def sse_events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to its [DONE]. Comment lines are passed over.

    Raises `KvikError` for an error in the stream, for what is no event, and where the stream ends before its [DONE].
    """
    for line in lines:
        name, _, data = line.decode(errors="replace").rstrip("\r\n").partition(":")
        if name != "data":
            continue
        if data.strip() == DONE:
            return
        yield _event(data)
    raise KvikError("the stream broke off before its end; has the server been stopped?")


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise KvikError(f"the stream holds an event that is no JSON object: {data.strip()[:100]!r}")
    if error := event.get("error"):
        words = error.get("message", error) if isinstance(error, dict) else error
        raise KvikError(f"the stream ended with an error: {words}")
    return event


def _lines(response: Any, url: str) -> Iterator[bytes]:
    """The lines of a body; a connection that breaks becomes a `KvikError`."""
    try:
        yield from response
    except (OSError, HTTPException) as e:
        raise KvikError(f"the connection to {url} broke in the middle of the answer: {e!r}") from None


def _error_message(body: bytes) -> str:
    """The server's words, in OpenAI's shape or in another."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]
