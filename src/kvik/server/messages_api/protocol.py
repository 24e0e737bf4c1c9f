"""The bodies of POST /v1/messages and /v1/messages/count_tokens. Knows no engine; blocks are checked in `turns.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from kvik.errors import InvalidRequestError
from kvik.server.fields import Int64, ReturnTimings, refuse_unsupported
from kvik.server.validation import RequestModel

_BLOCK_TYPES = ["text", "document", "tool_use", "tool_result", "tool_reference", "thinking", "redacted_thinking"]
_BLOCK_SCHEMA = {
    "type": "object",
    "properties": {"type": {"enum": _BLOCK_TYPES}, "text": {"type": "string"}},
    "required": ["type"],
}
_CONTENT_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": _BLOCK_SCHEMA}]}
_MESSAGE_SCHEMA = {
    "type": "object",
    "properties": {"role": {"enum": ["user", "assistant", "system"]}, "content": _CONTENT_SCHEMA},
    "required": ["role", "content"],
}

MessageParam = Annotated[dict[str, Any], WithJsonSchema(_MESSAGE_SCHEMA)]


class Tool(RequestModel):
    """A tool that the client runs."""

    name: Annotated[str, Field(min_length=1)]
    type: str | None = Field(None, description="custom, or left out")
    description: str | None = None
    input_schema: dict[str, Any] | None = Field(None, description="JSON schema of the arguments, an object")
    strict: bool | None = None


class ToolChoice(RequestModel):
    """Whether, and which, tools are called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = Field(None, description="with type tool")
    disable_parallel_tool_use: bool | None = Field(None, description="at most one call per answer")


class Thinking(RequestModel):
    """Whether the model thinks before it answers."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Int64 | None = Field(None, description="with type enabled: at least 1024, below max_tokens")
    display: Literal["summarized", "omitted"] | None = Field(None, description="omitted: the thoughts are not sent")


class OutputFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(RequestModel):
    """How the answer is to be."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(None, description="given to the template")
    format: OutputFormat | None = Field(None, description="the text of the answer follows this schema")


class Metadata(RequestModel):
    user_id: str | None = Field(None, description="ignored, as chat's user")


class ConversationFields(RequestModel):
    """What is said to the model, and how it is to answer."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: Annotated[str, Field(min_length=1)]
    messages: list[MessageParam]
    system: Annotated[str | list[dict[str, Any]] | None, WithJsonSchema(_CONTENT_SCHEMA)] = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="variables for the template")

    container: Any = None
    mcp_servers: Any = None


class CountTokensRequest(ConversationFields):
    """A conversation whose tokens are counted."""


class MessagesRequest(ConversationFields):
    """A conversation to continue."""

    max_tokens: Annotated[Int64, Field(gt=0)]
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int64 | None = None
    stop_sequences: list[str] | None = Field(None, description="up to 4 strings that end the answer")
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = Field(None, description="there is one")
    cache_salt: str | None = Field(None, description="isolates this request's entries of the prefix cache")
    priority: Int64 | None = None
    request_id: str | None = Field(None, description="base of the answer's id; X-Request-Id wins")
    return_timings: ReturnTimings = False
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None
    watermarking: Any = None
    vllm_xargs: Any = None


_MIN_THINKING_TOKENS = 1024


def check_conversation(body: ConversationFields) -> None:
    """What needs no template. Raises `InvalidRequestError` naming the field."""
    refuse_unsupported(body, ("container", "mcp_servers"))
    if not body.messages:
        raise InvalidRequestError("messages must hold at least one message", param="messages")


def check_thinking_budget(thinking: Thinking | None, max_tokens: int) -> None:
    """Raises `InvalidRequestError` for a budget that is missing, too small, or not below `max_tokens`."""
    if thinking is None or thinking.type != "enabled":
        return
    budget = thinking.budget_tokens
    if budget is None or budget < _MIN_THINKING_TOKENS or budget >= max_tokens:
        raise InvalidRequestError(
            f"thinking.budget_tokens must be at least {_MIN_THINKING_TOKENS} and below max_tokens ({max_tokens}), "
            f"got {budget}; use thinking type 'adaptive' to leave it open",
            param="thinking.budget_tokens",
        )
