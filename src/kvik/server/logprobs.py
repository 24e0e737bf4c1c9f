"""Log probabilities in the three forms that answers have. Pure functions over `text.outputs`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from kvik.text.outputs import Logprob, PositionLogprobs

FLOOR = -9999.0
"""JSON has no -inf."""


def token_name(token_id: int, logprob: Logprob, as_id: bool) -> str:
    return f"token_id:{token_id}" if as_id else logprob.decoded_token


def chat_logprobs(
    positions: Sequence[PositionLogprobs], num_top: int, as_ids: bool, wanted_ids: Collection[int] = ()
) -> dict[str, Any]:
    """`{"content": [...]}`; per token the chosen one first among its `num_top` alternatives (-1: all).

    Those of `wanted_ids` that are not among these follow them.
    """
    return {"content": [_chat_position(position, num_top, as_ids, wanted_ids) for position in positions]}


def _chat_position(
    position: PositionLogprobs, num_top: int, as_ids: bool, wanted_ids: Collection[int]
) -> dict[str, Any]:
    entries = [(token_id, _chat_entry(token_id, logprob, as_ids)) for token_id, logprob in position.items()]
    end = len(entries) if num_top < 0 else num_top
    top = [entry for _, entry in entries[:end]] + [entry for i, entry in entries[end:] if i in wanted_ids]
    return entries[0][1] | {"top_logprobs": top}


def _chat_entry(token_id: int, logprob: Logprob, as_id: bool) -> dict[str, Any]:
    name = token_name(token_id, logprob, as_id)
    return {"token": name, "logprob": max(logprob.logprob, FLOOR), "bytes": list(name.encode("utf-8", "replace"))}


class CompletionLogprobs:
    """The four parallel lists of a completion; offsets go on from call to call."""

    def __init__(self, as_ids: bool) -> None:
        self._as_ids = as_ids
        self._num_chars = 0

    def of(
        self, positions: Sequence[PositionLogprobs | None], token_ids: Sequence[int], names: dict[int, str]
    ) -> dict[str, Any]:
        """One entry per token. A position of None (the first of a prompt) has a name from `names` and no numbers."""
        offsets: list[int] = []
        logprobs: list[float | None] = []
        tokens: list[str] = []
        tops: list[dict[str, float] | None] = []
        for token_id, position in zip(token_ids, positions, strict=True):
            entry = position.get(token_id) if position else None
            name = names.get(token_id, "") if entry is None else entry.decoded_token
            name = f"token_id:{token_id}" if self._as_ids else name
            offsets.append(self._num_chars)
            self._num_chars += len(name)
            tokens.append(name)
            logprobs.append(None if entry is None else max(entry.logprob, FLOOR))
            tops.append(None if position is None else self._top(position))
        return {"text_offset": offsets, "token_logprobs": logprobs, "tokens": tokens, "top_logprobs": tops}

    def _top(self, position: PositionLogprobs) -> dict[str, float]:
        """Several ids may share a text (pieces of a character); the likeliest one keeps it."""
        top: dict[str, float] = {}
        for token_id, logprob in position.items():
            top.setdefault(token_name(token_id, logprob, self._as_ids), max(logprob.logprob, FLOOR))
        return top


def prompt_logprobs(positions: Sequence[PositionLogprobs | None] | None) -> list[dict[str, Any] | None] | None:
    """`[null, {"TOKEN_ID": {logprob, rank, decoded_token}}, ...]`."""
    if positions is None:
        return None
    return [None if position is None else _by_id(position) for position in positions]


def _by_id(position: PositionLogprobs) -> dict[str, Any]:
    return {
        str(token_id): {
            "logprob": max(entry.logprob, FLOOR),
            "rank": entry.rank,
            "decoded_token": entry.decoded_token,
        }
        for token_id, entry in position.items()
    }
