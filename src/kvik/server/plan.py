"""GET /plan: where the memory of this server went, what would fit, and what other flags would change."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.config import EngineConfig
from kvik.errors import ModelFileError
from kvik.messages import EngineFacts
from kvik.modelfile import open_model
from kvik.plan.memory_plan import Device, compute
from kvik.plan.report import report
from kvik.plan.speed_file import remembered_speed
from kvik.plan.stored import stored_weights
from kvik.plan.weights import StoredWeights
from kvik.server.responses import json_response
from kvik.server.state import state_of


async def plan(request: Request) -> Response:
    """What `kvik plan --json` would print of this server as it runs, and its ledger of memory."""
    client = state_of(request).client
    planned = await asyncio.to_thread(plan_of, client.config, client.facts)  # reads headers of files
    ledger = [{"part": e.part, "bytes": e.used_bytes, "limit_bytes": e.limit_bytes} for e in client.ledger]
    return json_response(planned | {"ledger": ledger})


def plan_of(config: EngineConfig, facts: EngineFacts) -> dict[str, Any]:
    """By what the engine measured, and the arithmetic of its start."""
    device = Device(
        total_bytes=facts.device_memory_bytes,
        kind="cpu" if facts.device == "cpu" else "cuda",
        num_devices=config.parallel.tensor_parallel_size,
        native=facts.kernels != "reference",
        weights_bytes=facts.weights_bytes,
        framework_bytes=facts.framework_bytes,
        activations_bytes=None if facts.device == "cpu" else facts.activations_bytes + facts.framework_bytes,
        graphs_bytes=facts.graphs_bytes,
    )
    stored = _stored(config)
    return report(compute(config, stored, device), stored, remembered_speed())


def _stored(config: EngineConfig) -> StoredWeights:
    """As the checkpoint says now; one that has gone away since the start says nothing more."""
    if config.load.load_format == "dummy":
        return StoredWeights()
    try:
        return stored_weights(open_model(config.model.model))
    except ModelFileError:
        return StoredWeights()
