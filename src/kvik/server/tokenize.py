"""POST /tokenize, POST /detokenize and GET /tokenizer_info: the tokenizer, without the engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.modelfile.json_file import read_json_object
from kvik.server.body import read_model
from kvik.server.chat.prompt import render_prompt
from kvik.server.chat.protocol import Message, ToolDict, check_messages
from kvik.server.chat.tools import check_tools, template_tools
from kvik.server.fields import TokenId, refuse_unsupported
from kvik.server.responses import json_response
from kvik.server.state import state_of
from kvik.server.validation import RequestModel
from kvik.text.vocabulary_checks import check_token_ids

if TYPE_CHECKING:
    from kvik.text.tokenizer import Tokenizer

_LONG_TEXT_CHARS = 8192
"""From so many characters, or tokens, on, the work takes longer than the event loop should wait."""


class TokenizeRequest(RequestModel):
    """A text, or a conversation, as the model would read it. Exactly one of `prompt` and `messages`."""

    prompt: str | None = None
    messages: list[Message] | None = None
    model: str | None = None
    add_special_tokens: bool | None = Field(None, description="default: true for a prompt, false for messages")
    return_token_strs: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None
    reasoning_effort: str | None = None
    tools: list[ToolDict] | None = None
    media_io_kwargs: Any = None
    mm_processor_kwargs: Any = None


class DetokenizeRequest(RequestModel):
    """Token ids to turn into text."""

    tokens: Annotated[list[TokenId], Field(description="ids of the vocabulary")]
    model: str | None = None


async def tokenize(request: Request) -> Response:
    """No limit on the length but that of the body."""
    state = state_of(request)
    body = await read_model(request, TokenizeRequest, state.limits)
    state.check_model(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequestError("give either prompt or messages", param="prompt")
    refuse_unsupported(body, ("media_io_kwargs", "mm_processor_kwargs"))
    if body.tools is not None and body.messages is None:
        raise InvalidRequestError("tools go with messages; a prompt has no template to show them", param="tools")
    check_tools(body.tools, state.limits)
    if body.messages is not None:
        check_messages(body.messages, state.limits)
    text = await render_prompt(body, state, template_tools(body.tools)) if body.prompt is None else body.prompt
    adds_special = body.messages is None if body.add_special_tokens is None else body.add_special_tokens
    tokenizer = state.tokenizer
    ids = await _encode(tokenizer, text, adds_special)
    return json_response({
        "count": len(ids),
        "max_model_len": state.client.facts.max_model_len,
        "tokens": ids,
        "token_strs": [tokenizer.id_to_token(i) for i in ids] if body.return_token_strs else None,
    })  # fmt: skip


async def detokenize(request: Request) -> Response:
    state = state_of(request)
    body = await read_model(request, DetokenizeRequest, state.limits)
    state.check_model(body.model)
    tokenizer = state.tokenizer
    # A model's vocabulary may be padded beyond its tokens: such ids can be generated, and have no text.
    vocab_size = max(state.client.config.model.spec.vocab_size, tokenizer.vocab_size)
    if body.tokens and max(body.tokens) >= vocab_size:
        check_token_ids("tokens", body.tokens, vocab_size)
    if len(body.tokens) < _LONG_TEXT_CHARS:
        text = tokenizer.decode(body.tokens, skip_special_tokens=False)
    else:
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special_tokens=False)
    return json_response({"prompt": text})


async def tokenizer_info(request: Request) -> Response:
    """What clients need to count tokens and build prompts themselves: the model's tokenizer_config.json, if it has one.

    The chat template is the one that this server uses.
    """
    state = state_of(request)
    tokenizer = state.tokenizer
    file = Path(state.client.config.model.tokenizer) / "tokenizer_config.json"
    settings = await asyncio.to_thread(read_json_object, file) if file.is_file() else {}
    return json_response({
        "tokenizer_class": type(tokenizer).__name__,
        "vocab_size": tokenizer.vocab_size,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "special_token_ids": sorted(tokenizer.special_token_ids),
    } | settings | {"chat_template": state.client.chat_template.source})  # fmt: skip


async def _encode(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    if len(text) < _LONG_TEXT_CHARS:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return await asyncio.to_thread(tokenizer.encode, text, add_special_tokens=add_special_tokens)
