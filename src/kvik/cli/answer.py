"""One streamed answer as `kvik chat` and `kvik complete` show it: events -> pieces, and how fast they came.

Knows the events of the two OpenAI-compatible endpoints; no connection and no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """What one event adds to the answer; never empty."""

    text: str
    is_reasoning: bool = False
    """What the model thought before it answered: shown, but no part of the answer."""


@dataclass
class Answer:
    """Complete once the iterator that fills it is exhausted."""

    pieces: list[str] = field(default_factory=list)
    """Without the reasoning."""
    num_tokens: int | None = None
    """As the server counts them, reasoning included; None where it does not say."""
    first_piece_s: float | None = None
    """Seconds from the question to the first piece, reasoning included."""
    total_s: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def take(self, event: Mapping[str, Any], elapsed_s: float) -> Iterator[Piece]:
        """Note what `event` says, which came `elapsed_s` after the question, and yield its pieces."""
        if usage := event.get("usage"):
            self.num_tokens = usage.get("completion_tokens")
        for piece in pieces_of(event):
            if self.first_piece_s is None:
                self.first_piece_s = elapsed_s
            if not piece.is_reasoning:
                self.pieces.append(piece.text)
            yield piece

    def stats_line(self) -> str:
        """Time to the first token, tokens, and tokens per second after the first."""
        first = "-" if self.first_piece_s is None else f"{self.first_piece_s:.3f} s"
        decode_s = self.total_s - (self.first_piece_s or 0.0)
        speed = f"{(self.num_tokens - 1) / decode_s:.1f}" if self.num_tokens and decode_s > 0 else "-"
        return f"[first token {first}; {self.num_tokens or '-'} tokens in {self.total_s:.3f} s; {speed} tokens/s]"


def pieces_of(event: Mapping[str, Any]) -> Iterator[Piece]:
    """Reasoning, under either of its names, then what belongs to the answer."""
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta") or {}
    if reasoning := delta.get("reasoning") or delta.get("reasoning_content"):
        yield Piece(reasoning, is_reasoning=True)
    if text := choice.get("text") or delta.get("content"):
        yield Piece(text)
