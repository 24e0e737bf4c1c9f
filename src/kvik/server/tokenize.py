"""POST /tokenize, POST /detokenize and GET /tokenizer_info: the tokenizer, without the engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.server.body import read_model
from kvik.server.chat.prompt import render_prompt
from kvik.server.chat.protocol import Message, ToolDict, check_messages
from kvik.server.chat.tools import check_tools, template_tools
from kvik.server.fields import TokenId, refuse_unsupported
from kvik.server.responses import json_response
from kvik.server.state import state_of

if TYPE_CHECKING:
    from kvik.text.tokenizer import Tokenizer

_LONG_TEXT_CHARS = 8192
"""From here on, tokenizing takes longer than the event loop should wait."""


class TokenizeRequest(BaseModel):
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


class DetokenizeRequest(BaseModel):
    """Token ids to turn into text."""

    tokens: Annotated[list[TokenId], Field(description="ids outside the vocabulary decode to nothing")]
    model: str | None = None


async def tokenize(request: Request) -> Response:
    """No limit on the length but that of the body."""
    state = state_of(request)
    body = await read_model(request, TokenizeRequest, state.limits)
    state.check_model(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequestError("give either prompt or messages", param="prompt")
    refuse_unsupported(body, ("media_io_kwargs", "mm_processor_kwargs"))
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
    known = [i for i in body.tokens if tokenizer.has_id(i)]
    return json_response({"prompt": tokenizer.decode(known, skip_special_tokens=False)})


async def tokenizer_info(request: Request) -> Response:
    """What clients need to count tokens and build prompts themselves."""
    tokenizer = state_of(request).tokenizer
    return json_response({
        "tokenizer_class": type(tokenizer).__name__,
        "vocab_size": tokenizer.vocab_size,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "chat_template": state_of(request).client.chat_template.source,
        "special_token_ids": sorted(tokenizer.special_token_ids),
    })  # fmt: skip


async def _encode(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    if len(text) < _LONG_TEXT_CHARS:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return await asyncio.to_thread(tokenizer.encode, text, add_special_tokens=add_special_tokens)
