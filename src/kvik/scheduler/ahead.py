"""Who can be computed ahead of its own tokens: in a step whose input the step before is still choosing.

Knows sampling parameters, no request and no step.
"""

from __future__ import annotations

from kvik.sampling_params import SamplingParams


def runs_ahead(params: SamplingParams) -> bool:
    """Whether the next token but one can be computed before the next one is known on the host.

    Not with a grammar, nor where words of several tokens are ruled out by the tokens before their last one.
    """
    return params.structured_outputs is None and all(len(word) == 1 for word in params.bad_words_token_ids)
