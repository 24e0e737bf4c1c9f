"""Whether an answer ends in a pattern that repeats. Knows token ids only."""

from __future__ import annotations

from kvik.sampling_params import RepetitionDetection


def ends_in_repetition(token_ids: list[int], num_prompt_tokens: int, wanted: RepetitionDetection) -> bool:
    """Whether the last tokens of the answer are `min_count` times the same pattern of one of the wanted sizes."""
    num_output_tokens = len(token_ids) - num_prompt_tokens
    longest = min(wanted.max_pattern_size, num_output_tokens // wanted.min_count)
    for size in range(wanted.min_pattern_size, longest + 1):
        if token_ids[-1] != token_ids[-1 - size]:
            continue  # spares nearly all slices
        tail = token_ids[-size * wanted.min_count :]
        if tail[size:] == tail[:-size]:
            return True
    return False
