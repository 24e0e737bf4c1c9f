"""What the bytes of one streamed answer say: status, chunks with their times, tokens, and why it failed if it did.

Reads HTTP/1.1 and server-sent events; knows no socket. An event is one `data:` line, as OpenAI-compatible servers
write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kvik.bench.client import RawAnswer

DONE = b"[DONE]"
MAX_ERROR_CHARS = 300


@dataclass
class Answer:
    """One request. Times are seconds of `time.perf_counter()` or spans of it."""

    sent_s: float
    num_prompt_tokens: int = 0
    """As the server counts them, or else as the dataset does."""
    num_output_tokens: int = 0
    """As the server counts them, or else its chunks."""
    ttft_s: float = 0.0
    """From sending to the first chunk with a token."""
    itl_s: list[float] = field(default_factory=list)
    """From each such chunk to the next."""
    latency_s: float = 0.0
    """From sending to the last chunk with a choice."""
    text: str = ""
    error: str = ""
    """Why it does not count, or ""."""

    @property
    def is_success(self) -> bool:
        return not self.error

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, or None where there is but one."""
        if self.num_output_tokens < 2:
            return None
        return (self.latency_s - self.ttft_s) / (self.num_output_tokens - 1)


def read_answer(raw: RawAnswer, num_prompt_tokens: int) -> Answer:
    """Never raises: whatever is wrong with the bytes is the answer's `error`."""
    answer = Answer(raw.sent_s, num_prompt_tokens)
    status, is_chunked, pieces = _head(raw)
    if status is None:
        answer.error = raw.error or "the connection ended before an answer began"
    elif status != 200:
        body = b"".join(payload for _, payload in _payloads(pieces, is_chunked))
        answer.error = f"HTTP {status}: {error_message(body)}"
    else:
        _read_events(answer, _data_lines(_payloads(pieces, is_chunked)))
        if answer.error and raw.error:  # a connection that broke after a whole answer took nothing from it
            answer.error = f"{raw.error}: {answer.error}"
    return answer


def error_message(body: bytes) -> str:
    """The message of an OpenAI error body, or the beginning of whatever it is."""
    try:
        return str(json.loads(body)["error"]["message"])[:MAX_ERROR_CHARS]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:MAX_ERROR_CHARS] or "no body"


Timed = Iterator[tuple[float, bytes]]


def _head(raw: RawAnswer) -> tuple[int | None, bool, Timed]:
    """Status (None where the head is not whole or none of HTTP), whether the body is chunked, the body's pieces."""
    start = b""
    for index, (time_s, piece) in enumerate(zip(raw.times_s, raw.pieces, strict=True)):
        start += piece
        head, end, rest = start.partition(b"\r\n\r\n")
        if end:
            later = zip(raw.times_s[index + 1 :], raw.pieces[index + 1 :], strict=True)
            words = head.split(b"\r\n", 1)[0].split()
            if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
                break
            return int(words[1]), b"transfer-encoding: chunked" in head.lower(), iter([(time_s, rest), *later])
    return None, False, iter(())


def _payloads(pieces: Timed, is_chunked: bool) -> Timed:
    """The body's bytes without the chunks' sizes, each part with the time of the piece that brought it."""
    if not is_chunked:
        yield from pieces
        return
    buffer, missing = b"", 0  # missing: bytes of the present chunk still to come, its line end included
    for time_s, piece in pieces:
        buffer += piece
        while buffer:
            if missing:
                part, buffer = buffer[:missing], buffer[missing:]
                yield time_s, part[: max(0, missing - 2)]
                missing -= len(part)
                continue
            size, end, rest = buffer.partition(b"\r\n")
            if not end:
                break
            buffer = rest
            try:
                missing = int(size.split(b";")[0], 16) + 2
            except ValueError:
                return  # no chunked body after all: the events so far are judged


def _data_lines(payloads: Timed) -> Timed:
    buffer = b""
    for time_s, payload in payloads:
        buffer += payload
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield time_s, line[5:].strip()


def _read_events(answer: Answer, events: Timed) -> None:
    last_token_s, num_chunks, is_whole = 0.0, 0, False
    texts: list[str] = []
    for time_s, data in events:
        if data == DONE:
            is_whole = True
            break
        event = _event(data)
        if event is None or "error" in event:
            answer.error = _stream_error(event, data, num_chunks)
            break
        _read_usage(answer, event)
        choice = next(iter(event.get("choices") or ()), None)
        if choice is None:
            continue
        answer.latency_s = time_s - answer.sent_s
        is_whole = is_whole or choice.get("finish_reason") is not None
        if not _brings_token(choice):
            continue
        if num_chunks:
            answer.itl_s.append(time_s - last_token_s)
        else:
            answer.ttft_s = time_s - answer.sent_s
        last_token_s = time_s
        num_chunks += 1
        texts.append(_text(choice))
    answer.text = "".join(texts)
    answer.num_output_tokens = answer.num_output_tokens or num_chunks
    if not answer.error and not (is_whole and num_chunks):
        what = f"the stream broke off after {num_chunks} chunks" if not is_whole else "the answer holds no token"
        answer.error = what


def _event(data: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(data)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _stream_error(event: dict[str, Any] | None, data: bytes, num_chunks: int) -> str:
    what = f"an event that is no JSON object: {data[:80]!r}" if event is None else error_message(data)
    return f"error after {num_chunks} chunks: {what}"


def _read_usage(answer: Answer, event: dict[str, Any]) -> None:
    if usage := event.get("usage"):
        answer.num_output_tokens = usage.get("completion_tokens") or answer.num_output_tokens
        answer.num_prompt_tokens = usage.get("prompt_tokens") or answer.num_prompt_tokens


def _text(choice: dict[str, Any]) -> str:
    """Text of a completion's chunk, or content and reasoning of a chat's."""
    delta = choice.get("delta") or {}
    return choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""


def _brings_token(choice: dict[str, Any]) -> bool:
    """Not so the first chunk of a chat, which names the role alone, and a last one which only says why it ends."""
    if _text(choice):
        return True
    return choice.get("finish_reason") is None and "role" not in (choice.get("delta") or {})
