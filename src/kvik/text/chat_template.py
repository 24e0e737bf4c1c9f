"""A conversation -> the prompt text that the model was trained on, by the model's Jinja template.

Knows no HTTP and no token ids. What is rendered, and within which limits: see `sandbox.py`; in which form templates
get the messages: see `conversation.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import jinja2

from kvik.errors import ConfigError, InvalidRequestError
from kvik.telemetry.log import get_logger, log_once
from kvik.text.content_format import ContentFormat, detect_content_format
from kvik.text.conversation import Message, template_messages
from kvik.text.sandbox import BUDGET, RenderBudget, compile_template

logger = get_logger(__name__)

MAX_RENDER_S = 5.0
MAX_RENDERED_CHARS = 1 << 25
_LONG_CONVERSATION_CHARS = 1 << 16
"""From here on, rendering may take longer than an event loop should wait."""
_SENTINEL = "<kvik: the answer goes on here> "
"""Ends with a space, so that one sees whether the template trims contents."""
_IGNORES_TOOLS = (
    "a request has tools, but the chat template never mentions them: the model does not learn what it may call. "
    "--chat-template takes a template that does"
)
_MISSING = (
    "this model has no chat template: start the server with --chat-template FILE (or the template's text), "
    "or use /v1/completions"
)


class SpecialTokens(Protocol):
    """What a template needs of a tokenizer; None where the model has no such token."""

    bos_token: str | None
    eos_token: str | None
    chat_template: str | None
    tool_chat_template: str | None
    """For conversations with tools, where that is another one."""


class ChatTemplate:
    """The template of one model. Stateless between renderings; safe to use from several threads.

    `source` is None where the model has none; then every rendering without a template of its own is refused.
    `tool_source` takes its place in conversations with tools. Raises `ConfigError` if a template does not parse.
    """

    def __init__(
        self,
        source: str | None,
        variables: Mapping[str, Any] | None = None,
        content_format: Literal["auto", "string", "openai"] = "auto",
        tool_source: str | None = None,
    ) -> None:
        self.source = source
        self.tool_source = tool_source
        self._variables = dict(variables or {})
        self._asked_format = content_format
        for given in filter(None, (source, tool_source)):
            try:
                compile_template(given)
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError(f"the chat template does not parse, line {error.lineno}: {error.message}") from None

    @classmethod
    def for_tokenizer(
        cls,
        tokenizer: SpecialTokens,
        override: str | None = None,
        content_format: Literal["auto", "string", "openai"] = "auto",
        variables: Mapping[str, Any] | None = None,
    ) -> ChatTemplate:
        """The tokenizer's template, or `override`: a file's path or the text itself, as --chat-template takes it.

        `variables` are defaults of the server for template variables (--default-chat-template-kwargs).
        """
        source = tokenizer.chat_template if override is None else load_template(override)
        tokens = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
        known = {name: token for name, token in tokens.items() if token is not None}
        tool_source = tokenizer.tool_chat_template if override is None else None
        return cls(source, known | dict(variables or {}), content_format, tool_source)

    @property
    def content_format(self) -> ContentFormat:
        """In which form this template gets contents."""
        return self._format_of(self.source or "")

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        template: str | None = None,
    ) -> str:
        """The prompt text. `template` replaces the model's; the caller has decided to trust it.

        With `continue_final_message` the text ends where the last message ends, so that the model goes on with it.
        Raises `InvalidRequestError`: no template, messages it does not take, or a limit of `sandbox.py` reached.
        """
        source = self._source_for(tools) if template is None else template
        if source is None:
            raise InvalidRequestError(_MISSING, param="messages")
        if continue_final_message and add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message and add_generation_prompt exclude each other; set the latter to false",
                param="continue_final_message",
            )
        if tools and "tools" not in source:
            log_once(logger, logging.WARNING, _IGNORES_TOOLS)
        _check_variables(chat_template_kwargs or {})
        compiled = _compile_for_request(source)
        plain = template_messages(messages, self._format_of(source))
        if "tool_calls" not in source:
            plain = [_with_content(message) for message in plain]
        if "developer" not in source:
            _call_developers_system(plain)
        final_text = _mark_end(plain[-1]) if continue_final_message else ""
        text = _run(
            compiled,
            self._variables
            | dict(chat_template_kwargs or {})
            | {
                "messages": plain,
                "tools": list(tools) if tools else None,
                "documents": list(documents) if documents else None,
                "add_generation_prompt": add_generation_prompt,
            },
        )
        return _cut_at_mark(text, final_text) if continue_final_message else text

    async def render_async(self, messages: Sequence[Message], **options: Any) -> str:
        """`render` for an event loop: long conversations are rendered in a thread. Same arguments and errors."""
        if _num_chars(messages) < _LONG_CONVERSATION_CHARS:
            return self.render(messages, **options)
        return await asyncio.to_thread(self.render, messages, **options)

    def _source_for(self, tools: Sequence[Mapping[str, Any]] | None) -> str | None:
        return self.tool_source if tools and self.tool_source is not None else self.source

    def _format_of(self, source: str) -> ContentFormat:
        return _detected_format(source) if self._asked_format == "auto" else self._asked_format


def load_template(path_or_text: str) -> str:
    """The template in a file, or the text itself if it holds Jinja. Raises `ConfigError` if it is neither."""
    if "{" in path_or_text or "\n" in path_or_text:
        return path_or_text
    try:
        return Path(path_or_text).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--chat-template must be a readable file or the template itself, got {path_or_text!r}: {error}"
        ) from None


_detected_format = lru_cache(maxsize=64)(detect_content_format)
_compiled = lru_cache(maxsize=64)(compile_template)


def _compile_for_request(source: str) -> jinja2.Template:
    try:
        return _compiled(source)
    except jinja2.TemplateSyntaxError as error:
        raise InvalidRequestError(
            f"chat_template does not parse, line {error.lineno}: {error.message}", param="chat_template"
        ) from None


def _check_variables(variables: Mapping[str, Any]) -> None:
    for name in ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"):
        if name in variables:
            raise InvalidRequestError(
                f"chat_template_kwargs must not hold {name!r}; it is a field of the request",
                param="chat_template_kwargs",
            )


def _run(template: jinja2.Template, variables: dict[str, Any]) -> str:
    budget = RenderBudget(MAX_RENDER_S, MAX_RENDERED_CHARS)
    pieces: list[str] = []
    try:
        for piece in template.generate(variables | {BUDGET: budget}):
            budget.add_output(piece)
            pieces.append(piece)
    except Exception as error:  # a template may fail in any way on messages that it does not expect
        reason = str(error) or type(error).__name__
        raise InvalidRequestError(f"the chat template refused the messages: {reason}", param="messages") from error
    return "".join(pieces)


def _with_content(message: dict[str, Any]) -> dict[str, Any]:
    """For templates that know no calls of tools, and so no messages without content: the calls become the text.

    A model that saw its own turns empty would go on like that.
    """
    if message.get("content") is not None:
        return message
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    shown = [{"name": call.get("name"), "arguments": call.get("arguments")} for call in calls]
    return message | {"content": json.dumps(shown, ensure_ascii=False) if shown else ""}


def _call_developers_system(messages: list[dict[str, Any]]) -> None:
    """For templates that do not know the newer name of that role: most would print it, and no model was trained so."""
    for message in messages:
        if message["role"] == "developer":
            message["role"] = "system"


def _mark_end(message: dict[str, Any]) -> str:
    """Append the sentinel to the message's text; returns the text without it."""
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content + _SENTINEL
        return content
    if isinstance(content, list) and content:
        text = str(content[-1]["text"])
        content[-1] = {"type": "text", "text": text + _SENTINEL}
        return text
    raise InvalidRequestError(
        "continue_final_message needs a last message with text content to continue", param="continue_final_message"
    )


def _cut_at_mark(rendered: str, final_text: str) -> str:
    end = rendered.rfind(_SENTINEL.strip())
    if end < 0 or final_text.strip() not in rendered:
        raise InvalidRequestError(
            "continue_final_message is not possible here: the chat template changes or drops the last message's text",
            param="continue_final_message",
        )
    trimmed = not rendered.startswith(_SENTINEL, end)
    return rendered[:end].rstrip() if trimmed else rendered[:end]


def _num_chars(messages: Sequence[Message]) -> int:
    """Characters of all contents, roughly."""
    return sum(len(str(m.get("content"))) for m in messages if isinstance(m, Mapping))
