"""Logits -> token ids: `Sampler`, and the `SamplingState` that each running request has."""

from __future__ import annotations

from kvik.sampling.chooser import Chooser, Chosen, OnItsWay, PlainChooser
from kvik.sampling.logprobs_mode import LogprobsMode
from kvik.sampling.sampled_token import SampledToken
from kvik.sampling.sampler import Sampler
from kvik.sampling.state import SamplingState
from kvik.sampling.token_mask import TokenMask

__all__ = [
    "Chooser", "Chosen", "LogprobsMode", "OnItsWay", "PlainChooser", "SampledToken", "Sampler", "SamplingState",
    "TokenMask",
]  # fmt: skip
