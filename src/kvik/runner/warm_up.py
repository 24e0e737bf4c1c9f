"""The step that runs once before the engine is ready. Knows nothing of what is computed."""

from __future__ import annotations

from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, ScheduledRequest, StepPlan

_REQUEST_ID = "warm-up"
_FIRST_BLOCK = 1
"""Block 0 is the null block. What is written here is overwritten by the first request that gets the block."""


def warm_up_plan(block_size: int, max_model_len: int) -> StepPlan:
    """One prompt of one block, sampled at random so that the sampler is warm too."""
    num_tokens = min(block_size, max_model_len)
    params = SamplingParams(seed=0, max_tokens=1)
    request = AdmittedRequest(_REQUEST_ID, [0] * num_tokens, num_tokens, params, None)
    return StepPlan([request], [ScheduledRequest(_REQUEST_ID, 0, num_tokens, [_FIRST_BLOCK])], [])
