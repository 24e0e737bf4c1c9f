"""How much the engine is given at a time, so that the order in which requests run is decided in front of it.

Knows counts of sequences and tokens; no queue, no clock and no message.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kvik.engine_client.admission.ticket import WaitReason

RESERVED_SHARE = 8
"""While there are several owners, one of each so many slots is kept from any single one of them."""
OWN_PROMPT_TOKENS = 128
"""While there are several owners, no further prompt of one enters while so many of its tokens are not computed, unless
another has more: the engine computes prompts in their order, and who comes next should find little before it."""


@dataclass(slots=True)
class _Sequence:
    owner: str
    num_prompt_tokens: int
    is_computed: bool = False
    """Its prompt is."""


class EngineWindow:
    """The sequences in the engine. At most `max_num_seqs`, and `max_prompt_tokens` of prompts not computed yet; what is
    larger by itself gets in alone."""

    def __init__(self, max_num_seqs: int, max_prompt_tokens: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._max_prompt_tokens = max_prompt_tokens
        self._inside: dict[str, _Sequence] = {}
        self._num_by_owner: Counter[str] = Counter()
        self._num_prompt_tokens_by_owner: Counter[str] = Counter()
        self._num_prompt_tokens = 0
        self.lacks_blocks = False
        """The engine has said that it keeps requests waiting for want of KV blocks."""

    def __contains__(self, sequence_id: str) -> bool:
        return sequence_id in self._inside

    @property
    def num_sequences(self) -> int:
        return len(self._inside)

    @property
    def num_prompt_tokens(self) -> int:
        """Of prompts that are not computed yet."""
        return self._num_prompt_tokens

    def obstacle(self, num_sequences: int, num_prompt_tokens: int) -> WaitReason | None:
        """Why these may not enter now; None: they may. Sequences that share a prompt count it once."""
        if not self._inside:
            return None
        if len(self._inside) + num_sequences > self._max_num_seqs:
            return WaitReason.SLOTS
        if self.lacks_blocks:
            return WaitReason.BLOCKS
        if self._num_prompt_tokens and self._num_prompt_tokens + num_prompt_tokens > self._max_prompt_tokens:
            return WaitReason.BUDGET
        return None

    def own_obstacle(self, owner: str, num_owners: int) -> WaitReason | None:
        """Why `owner` has all that one of several owners may have; None: it has less."""
        if num_owners < 2:
            return None
        if self._num_by_owner[owner] >= max(1, self._max_num_seqs - self._max_num_seqs // RESERVED_SHARE):
            return WaitReason.SLOTS
        tokens = self._num_prompt_tokens_by_owner
        most = max((num for other, num in tokens.items() if other != owner), default=0)
        return WaitReason.BUDGET if tokens[owner] >= max(OWN_PROMPT_TOKENS, most) else None

    def enter(self, owner: str, sequence_ids: list[str], num_prompt_tokens: int) -> None:
        """`num_prompt_tokens` of the prompt that these share."""
        for i, sequence_id in enumerate(sequence_ids):
            self._inside[sequence_id] = _Sequence(owner, 0 if i else num_prompt_tokens)
        self._num_by_owner[owner] += len(sequence_ids)
        self._add_prompt_tokens(owner, num_prompt_tokens)

    def computed(self, sequence_id: str) -> int:
        """Its prompt is computed. Tokens of it, the first time; else, and for unknown sequences, 0."""
        sequence = self._inside.get(sequence_id)
        if sequence is None or sequence.is_computed:
            return 0
        sequence.is_computed = True
        self._add_prompt_tokens(sequence.owner, -sequence.num_prompt_tokens)
        return sequence.num_prompt_tokens

    def leave(self, sequence_id: str) -> None:
        """It has ended; unknown sequences are ignored."""
        sequence = self._inside.pop(sequence_id, None)
        if sequence is None:
            return
        self._num_by_owner[sequence.owner] -= 1
        if not self._num_by_owner[sequence.owner]:
            del self._num_by_owner[sequence.owner]
        if not sequence.is_computed:
            self._add_prompt_tokens(sequence.owner, -sequence.num_prompt_tokens)

    def restart(self) -> None:
        """A new engine computes all of it again."""
        for sequence in self._inside.values():
            if sequence.is_computed:
                sequence.is_computed = False
                self._add_prompt_tokens(sequence.owner, sequence.num_prompt_tokens)
        self.lacks_blocks = False

    def _add_prompt_tokens(self, owner: str, num_tokens: int) -> None:
        self._num_prompt_tokens += num_tokens
        self._num_prompt_tokens_by_owner[owner] += num_tokens
        if not self._num_prompt_tokens_by_owner[owner]:
            del self._num_prompt_tokens_by_owner[owner]
