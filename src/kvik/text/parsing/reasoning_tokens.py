"""How many tokens of an answer are reasoning, for `usage`. Markers are not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kvik.text.parsing.events import AnswerEvent, ReasoningDelta
from kvik.text.parsing.reasoning import Begin, ReasoningFormat


class ReasoningTokens:
    """Of one answer. Exact where the markers are tokens (`marker_ids`); else the tokens of the reasoning's text."""

    def __init__(
        self,
        reasoning: ReasoningFormat,
        begin: Begin,
        marker_ids: Mapping[str, int],
        num_tokens_of: Callable[[str], int],
    ) -> None:
        self._starts = {marker_ids.get(text) for text in reasoning.starts}
        self._ends = {marker_ids.get(text) for text in reasoning.ends}
        self._by_ids = None not in self._starts | self._ends
        self._num_tokens_of = num_tokens_of
        self._is_inside = begin == Begin.IN_REASONING
        self._has_ended = begin == Begin.BEHIND_REASONING
        self._count = 0
        self._texts: list[str] = []

    def add(self, token_ids: Iterable[int], events: Iterable[AnswerEvent]) -> None:
        """What is new of the answer."""
        if not self._by_ids:
            self._texts += [event.text for event in events if isinstance(event, ReasoningDelta)]
        elif not self._has_ended:
            for token_id in token_ids:
                self._add_token(token_id)

    @property
    def count(self) -> int:
        return self._count if self._by_ids else self._num_tokens_of("".join(self._texts))

    def _add_token(self, token_id: int) -> None:
        if self._has_ended:
            return
        if token_id in self._ends:
            self._has_ended = True
        elif token_id in self._starts:
            self._is_inside = True
        elif self._is_inside:
            self._count += 1
