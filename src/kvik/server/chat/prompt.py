"""From the messages of a chat request to prompt text. How a template is run is the text room's matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.server.state import ServerState

_RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message")


async def render_prompt(body: Any, state: ServerState, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The prompt text of anything that has the fields of a chat request; `tools` are those that the template is told.

    Raises `InvalidRequestError`: a template that may not come with a request, or messages that the template refuses.
    """
    variables = _template_variables(body)
    _check_trust(body.chat_template, variables, state.config.trust_request_chat_template)
    return await state.client.chat_template.render_async(
        body.messages,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        tools=tools,
        documents=body.documents,
        chat_template_kwargs=variables,
        template=body.chat_template,
    )


def response_role(body: Any, default: str) -> str:
    """Who speaks the answer: the one who spoke last, where that message is continued."""
    return default if body.add_generation_prompt else str(body.messages[-1].get("role", default))


def echo_text(body: Any, role: str) -> str:
    """The text of the last message, if it is to be repeated in front of the answer."""
    last = body.messages[-1]
    if not body.echo or last.get("role") != role:
        return ""
    content = last.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)


def _template_variables(body: Any) -> dict[str, Any]:
    variables = dict(body.chat_template_kwargs or {})
    for name in _RESERVED:
        if name in variables:
            raise InvalidRequestError(
                f"chat_template_kwargs must not set {name}; there is a field of that name",
                param=f"chat_template_kwargs.{name}",
            )
    effort = getattr(body, "reasoning_effort", None)
    if effort is not None:
        variables.setdefault("reasoning_effort", effort)
        variables.setdefault("enable_thinking", effort != "none")
    return variables


def _check_trust(template: str | None, variables: Mapping[str, Any], is_trusted: bool) -> None:
    where = "chat_template" if template is not None else "chat_template_kwargs.chat_template"
    if not is_trusted and (template is not None or "chat_template" in variables):
        raise InvalidRequestError(
            f"{where} is not accepted; the server's operator can allow it with --trust-request-chat-template",
            param=where,
        )
