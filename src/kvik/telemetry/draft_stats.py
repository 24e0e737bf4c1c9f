"""What became of the drafts of one interval, in the words of the periodic log line. Knows no clock."""

from __future__ import annotations

from itertools import zip_longest

from kvik.messages import SpecDecodeStats


class DraftStats:
    """Sums over the steps of an interval."""

    def __init__(self) -> None:
        self.num_drafts = 0
        self._num_draft_tokens = 0
        self._num_accepted = 0
        self._num_accepted_per_pos: list[int] = []

    def add(self, step: SpecDecodeStats) -> None:
        self.num_drafts += step.num_drafts
        self._num_draft_tokens += step.num_draft_tokens
        self._num_accepted += step.num_accepted_tokens
        per_pos = zip_longest(self._num_accepted_per_pos, step.num_accepted_tokens_per_pos, fillvalue=0)
        self._num_accepted_per_pos = [before + now for before, now in per_pos]

    def parts(self, elapsed_s: float) -> list[str]:
        """There must have been a draft."""
        per_pos = ", ".join(f"{n / self.num_drafts:.3f}" for n in self._num_accepted_per_pos)
        return [
            f"Mean acceptance length: {1 + self._num_accepted / self.num_drafts:.2f}",
            f"Accepted throughput: {self._num_accepted / elapsed_s:.2f} tokens/s",
            f"Drafted throughput: {self._num_draft_tokens / elapsed_s:.2f} tokens/s",
            f"Accepted: {self._num_accepted} tokens",
            f"Drafted: {self._num_draft_tokens} tokens",
            f"Per-position acceptance rate: {per_pos}",
            f"Avg Draft acceptance rate: {100 * self._num_accepted / self._num_draft_tokens:.1f}%",
        ]
