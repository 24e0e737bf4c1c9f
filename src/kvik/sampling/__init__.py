"""Logits -> token ids: `Sampler`, and the `SamplingState` that each running request has."""

from __future__ import annotations

from kvik.sampling.sampler import LogprobsMode, SampledToken, Sampler
from kvik.sampling.state import SamplingState
from kvik.sampling.token_mask import TokenMask

__all__ = ["LogprobsMode", "SampledToken", "Sampler", "SamplingState", "TokenMask"]
