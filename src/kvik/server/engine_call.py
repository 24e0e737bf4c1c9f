"""The fields that chat completions and completions share -> what the engine is asked."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.config.limits import RequestLimits
from kvik.messages import LoraRequest
from kvik.sampling_params import SamplingParams
from kvik.server.answer_choice import answer_choice
from kvik.server.fields import GenerationFields
from kvik.server.generation import EngineCall
from kvik.text.processor import PromptOptions


def to_engine_call(
    body: GenerationFields,
    prompts: Sequence[str | list[int]],
    params: SamplingParams,
    limits: RequestLimits,
    request_id: str,
    priority: int,
    lora: LoraRequest | None = None,
) -> EngineCall:
    """Raises `InvalidRequestError` where prompts times n are too many."""
    choice = answer_choice(body, params)
    limits.check_sequences(len(prompts), max(params.n, body.best_of or 1))
    return EngineCall(
        prompts=prompts,
        params=params,
        request_id=request_id,
        priority=priority,
        cache_salt=body.cache_salt,
        options=PromptOptions(
            add_special_tokens=body.add_special_tokens,
            truncate_prompt_tokens=body.truncate_prompt_tokens,
            truncation_side=body.truncation_side or "left",
        ),
        stream_interval=body.stream_interval or 1,
        lora=lora,
        choice=choice,
    )
