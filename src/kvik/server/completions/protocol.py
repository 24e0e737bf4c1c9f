"""The body of POST /v1/completions, and the prompts in it. Knows no engine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.server.fields import GENERATION_UNSUPPORTED, GenerationFields, Int64, check_common, refuse_unsupported

DEFAULT_MAX_TOKENS = 16
_IDS_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        _IDS_SCHEMA,
        {"type": "array", "items": _IDS_SCHEMA},
    ]
}
_ACCEPTED = "a string, a list of strings, a list of token ids, or a list of such lists"
_COMPLETION_UNSUPPORTED = ("prompt_embeds", "suffix")


class CompletionRequest(GenerationFields):
    """One or several prompts to continue."""

    prompt: Annotated[Any, WithJsonSchema(_PROMPT_SCHEMA)] = None
    max_tokens: Int64 | None = Field(DEFAULT_MAX_TOKENS, description="tokens of each answer")
    logprobs: Int64 | None = Field(None, description="alternatives per token; 0: the chosen ones only")
    echo: bool = Field(False, description="put the prompt before the answer")

    # Not built yet.
    prompt_embeds: Any = None
    suffix: Any = None

    @property
    def echoes_only(self) -> bool:
        """The prompt alone is wanted; one token is generated and thrown away."""
        return self.echo and self.max_tokens == 0


def check_completion_request(request: CompletionRequest, limits: RequestLimits) -> None:
    """All that can be said without the tokenizer. Raises `InvalidRequestError` naming the field."""
    refuse_unsupported(request, _COMPLETION_UNSUPPORTED + GENERATION_UNSUPPORTED)
    check_common(request, limits, asks_logprobs=request.logprobs is not None)


def read_prompts(prompt: Any, limits: RequestLimits) -> list[str | list[int]]:
    """The prompts in order, each as text or as ids."""
    if prompt is None:
        raise InvalidRequestError(f"prompt is missing; give {_ACCEPTED}", param="prompt")
    prompts = _split(prompt)
    limits.check(len(prompts), limits.max_prompts, "prompt", "prompts")
    for i, one in enumerate(prompts):
        if len(one) == 0:
            where = "prompt" if len(prompts) == 1 else f"prompt.{i}"
            raise InvalidRequestError(f"{where} must not be empty", param=where)
    return prompts


def _split(prompt: Any) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise InvalidRequestError(f"prompt must be {_ACCEPTED}, got {_shown(prompt)}", param="prompt")
    if all(isinstance(one, str) for one in prompt):
        return list(prompt)
    if _are_ids(prompt):
        return [prompt]
    if all(isinstance(one, list) and _are_ids(one) for one in prompt):
        return list(prompt)
    raise InvalidRequestError(f"prompt must be {_ACCEPTED}, got a list of something else", param="prompt")


def _are_ids(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 2**31 for value in values)


def _shown(value: Any) -> str:
    return "an empty list" if value == [] else f"a value of type {type(value).__name__}"
