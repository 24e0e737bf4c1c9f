"""Who can be computed ahead of its own tokens: in a step whose input the step before is still choosing.

Knows sampling parameters, no request and no step.
"""

from __future__ import annotations

from kvik.sampling_params import SamplingParams


def runs_ahead(params: SamplingParams) -> bool:
    """Whether the next token but one can be computed before the next one is known on the host.

    Not with a grammar, nor with anything that looks at the tokens of the answer or tells of the logits.
    """
    return not (
        params.structured_outputs is not None
        or params.logprobs is not None
        or params.logprob_token_ids
        or params.allowed_token_ids is not None
        or params.bad_words_token_ids
        or params.min_tokens
        or params.logit_bias
        or params.frequency_penalty
        or params.presence_penalty
        or params.repetition_penalty != 1.0
    )
