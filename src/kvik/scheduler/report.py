"""What a person may ask of the scheduler while it runs. Reads only; shows no prompt and no token."""

from __future__ import annotations

from typing import Any

from kvik.scheduler.request import Request


def describe_request(request: Request, now_s: float, waiting_for: str | None = None) -> dict[str, Any]:
    """State of one request in builtin types, ready for JSON. `waiting_for`: what one that does not run waits for."""
    return {
        "request_id": request.request_id,
        "status": request.status.value,
        "waiting_for": waiting_for,
        "is_decoding": request.num_tokens <= request.num_computed_tokens + 1,
        "age_s": round(now_s - request.arrival_time_s, 3),
        "priority": request.priority,
        "num_prompt_tokens": request.num_prompt_tokens,
        "num_output_tokens": request.num_output_tokens,
        "num_computed_tokens": request.num_computed_tokens,
        "num_cached_tokens": request.num_cached_tokens or 0,
        "num_blocks": len(request.blocks.blocks),
        "num_preemptions": request.num_preemptions,
        "lora": None if request.lora is None else request.lora.lora_name,
    }
