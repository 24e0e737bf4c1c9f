"""What callers of the offline door may write for prompts, conversations and values -> lists. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.messages import LoraRequest

Prompt = str | list[int] | Mapping[str, Any]
"""A text, token ids, {"prompt": text} or {"prompt_token_ids": ids}; either object may have a "cache_salt"."""
Conversation = Sequence[Mapping[str, Any]]
"""OpenAI messages: objects with `role` and `content`."""
Adapters = LoraRequest | Sequence[LoraRequest | None] | None
"""One for all prompts, or one (or None) each."""


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of integers is one prompt."""
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    if prompts and all(type(i) is int for i in prompts):
        return [list(prompts)]  # type: ignore[arg-type]
    return list(prompts)  # type: ignore[arg-type]


def as_conversations(messages: Conversation | Sequence[Conversation]) -> list[Conversation]:
    """A list of messages is one conversation."""
    if messages and isinstance(messages[0], Mapping):
        return [messages]  # type: ignore[list-item]
    return list(messages)  # type: ignore[arg-type]


def prompt_parts(prompt: Prompt) -> tuple[str | list[int], str | None]:
    """Text or ids, and the cache salt. Raises `InvalidRequestError` for an object with neither."""
    if isinstance(prompt, str):
        return prompt, None
    if not isinstance(prompt, Mapping):
        return list(prompt), None
    content = prompt.get("prompt_token_ids", prompt.get("prompt"))
    if content is None:
        raise InvalidRequestError('a prompt object must have "prompt" or "prompt_token_ids"', param="prompt")
    return content if isinstance(content, str) else list(content), prompt.get("cache_salt")


def one_each(name: str, values: Any, num_prompts: int) -> list[Any]:
    """`values`, or the one value as often as there are prompts. Raises `InvalidRequestError` for another number."""
    if not isinstance(values, Sequence) or isinstance(values, LoraRequest):
        return [values] * num_prompts
    if len(values) != num_prompts:
        raise InvalidRequestError(
            f"{name} must be one for all prompts or one each: {num_prompts} prompts, {len(values)} values", param=name
        )
    return list(values)
