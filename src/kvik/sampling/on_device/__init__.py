"""Logits on a GPU -> token ids that stay there, for all that a request may ask: nothing in between waits for the GPU.

`DeviceSampler.choose` queues the work of one step, stage after stage, and one copy of what comes of it. The tokens and
the numbers are those of `kvik.sampling.Sampler`, which asks and answers row by row on the host.
"""

from __future__ import annotations

from kvik.sampling.on_device.sampler import DeviceSampler

__all__ = ["DeviceSampler"]
