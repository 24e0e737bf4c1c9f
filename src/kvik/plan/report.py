"""A plan as JSON: what `kvik plan --json` prints. Sizes are bytes, speeds tokens per second."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kvik.config.device_kind import name_of
from kvik.plan.memory_plan import Outcome
from kvik.plan.speed import MachineSpeed, estimate
from kvik.plan.weights import StoredWeights
from kvik.plan.what_if import Variant, largest_context, needed_device_bytes, remedies, variants

CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


def report(outcome: Outcome, stored: StoredWeights, speed: MachineSpeed | None) -> dict[str, Any]:
    """All of it, in builtins."""
    return {
        **_model(outcome),
        "device": _device(outcome),
        "memory": _memory(outcome),
        "kv_cache": _kv_cache(outcome),
        "max_model_len": outcome.kv.max_model_len,
        "max_concurrency": round(outcome.kv.max_concurrency, 2),
        "max_num_seqs": outcome.config.scheduler.max_num_seqs,
        "fits": outcome.fits,
        "problem": outcome.problem,
        "largest_max_model_len": largest_context(outcome, stored),
        "requests_at_once": requests_by_context(outcome),
        "what_if": [_variant(variant) for variant in variants(outcome, stored)],
        "remedies": [_variant(variant) for variant in remedies(outcome, stored)],
        "needed_device_bytes": needed_device_bytes(outcome),
        "speed": None if speed is None else {"is_estimate": True, **asdict(estimate(outcome, speed))},
    }


def requests_by_context(outcome: Outcome) -> list[dict[str, int]]:
    """How many requests of which length the KV cache holds; lengths that fit at least once."""
    most = outcome.config.model.spec.max_position_embeddings
    lengths = sorted({*(n for n in CONTEXTS if n <= most), outcome.kv.max_model_len})
    counted = [{"num_tokens": n, "num_requests": outcome.requests_of(n)} for n in lengths]
    return [entry for entry in counted if entry["num_requests"]]


def _model(outcome: Outcome) -> dict[str, Any]:
    model = outcome.config.model
    return {
        "model": model.served_model_names[0],
        "architecture": model.spec.architecture,
        "num_parameters": outcome.num_parameters,
        "dtype": model.dtype,
        "quantization": model.quantization,
    }


def _device(outcome: Outcome) -> dict[str, Any]:
    device, budget = outcome.device, outcome.budget
    return {
        "kind": device.kind,
        "total_bytes": budget.total_bytes,
        "gpu_memory_utilization": budget.utilization,
        "requested_bytes": budget.requested_bytes,
        "tensor_parallel_size": device.num_devices,
    }


def _memory(outcome: Outcome) -> dict[str, Any]:
    budget = outcome.budget
    return {
        "weights_bytes": budget.weights_bytes,
        "weights_bytes_by_format": outcome.weights.bytes_by_format,
        "activations_bytes": budget.activations_bytes,
        "graphs_bytes": budget.graphs_bytes,
        "adapters_bytes": budget.adapters_bytes,
        "available_kv_bytes": outcome.available_bytes,
    }


def _kv_cache(outcome: Outcome) -> dict[str, Any]:
    kv = outcome.kv
    return {
        "dtype": name_of(outcome.kv_dtype),
        "bytes_per_token": outcome.kv_bytes_per_token,
        "block_size": kv.block_size,
        "block_bytes": kv.block_bytes,
        "num_blocks": kv.num_blocks,
        "num_tokens": kv.num_tokens,
        "pool_bytes": kv.pool_bytes,
    }


def _variant(variant: Variant) -> dict[str, Any]:
    found = variant.outcome
    return {
        "flags": variant.text,
        "problem": found.problem,
        "weights_bytes": found.budget.weights_bytes,
        "kv_bytes_per_token": found.kv_bytes_per_token,
        "num_blocks": found.kv.num_blocks,
        "num_tokens": found.kv.num_tokens,
        "max_model_len": found.kv.max_model_len,
        "max_concurrency": round(found.kv.max_concurrency, 2),
        "fits": found.fits,
    }
