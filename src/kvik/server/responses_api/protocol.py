"""The body of POST /v1/responses: types, ranges, and what is refused. Items, tools and formats are read elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from kvik.errors import InvalidRequestError
from kvik.server.fields import Int64, ReturnTimings, SamplingFields
from kvik.server.responses_api.schemas import FORMAT_SCHEMA, INPUT_SCHEMA, TOOL_CHOICE_SCHEMA, TOOL_SCHEMA
from kvik.server.validation import RequestModel

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]

MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
MAX_ID_CHARS = 64
MAX_TOP_LOGPROBS = 20


class ReasoningOptions(RequestModel):
    """How much to reason. Reasoning is shown as it is, never summed up."""

    effort: Effort | None = Field(None, description="given to the template")
    summary: Literal["auto", "concise", "detailed"] | None = Field(
        None, description="no summary is made: the reasoning itself is in the item's content"
    )
    generate_summary: Literal["auto", "concise", "detailed"] | None = Field(None, description="older name of summary")


class TextOptions(RequestModel):
    """The form of the answer's text."""

    format: Annotated[Any, WithJsonSchema(FORMAT_SCHEMA)] = None
    verbosity: Literal["low", "medium", "high"] | None = Field(None, description="given to the template")


class ResponseStreamOptions(RequestModel):
    """What a stream holds besides its events."""

    include_obfuscation: bool | None = Field(None, description="only false: events are not padded")


class ResponsesRequest(SamplingFields):
    """Items to continue with a response."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    input: Annotated[Any, WithJsonSchema(INPUT_SCHEMA)] = Field(description="a text, or a list of items")
    model: str | None = Field(None, description="a served name; none: the first one")
    instructions: str | None = Field(None, description="put first; not inherited from the previous response")
    previous_response_id: str | None = Field(None, description="a stored response whose conversation goes on")
    store: bool | None = Field(True, description="keep the response, so that it can be retrieved and continued")
    background: bool | None = Field(False, description="answer at once and generate meanwhile; needs store")
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    include: list[Includable] | None = None
    max_output_tokens: Int64 | None = Field(None, description="tokens of the answer; none: what fits")
    max_tool_calls: Int64 | None = Field(None, description="calls of tools in one response; further ones are left out")
    metadata: dict[str, str] | None = Field(None, description="up to 16 pairs, handed back")
    parallel_tool_calls: bool | None = Field(None, description="false: one call in a response at most")
    reasoning: ReasoningOptions | None = None
    include_reasoning: bool = Field(True, description="false: no reasoning items")
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = Field(
        None, description="handed back: there is one tier"
    )
    temperature: float | None = Field(None, description="0 to 2; 0 is greedy")
    top_p: float | None = Field(None, description="above 0, at most 1")
    text: TextOptions | None = None
    tools: list[Annotated[Any, WithJsonSchema(TOOL_SCHEMA)]] | None = None
    tool_choice: Annotated[Any, WithJsonSchema(TOOL_CHOICE_SCHEMA)] = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = Field(
        None, description="alternatives per token"
    )
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto: the oldest items are left out where the conversation does not fit"
    )
    user: str | None = Field(None, description="handed back")
    safety_identifier: str | None = Field(None, description="handed back")
    prompt_cache_key: str | None = Field(None, description="handed back: every prompt finds its prefix in the cache")
    prompt_cache_retention: Literal["in_memory", "24h"] | None = Field(None, description="handed back")

    # With the meaning that they have in chat completions.
    return_timings: ReturnTimings = False
    logit_bias: dict[str, float] | None = Field(None, description="token id -> -100 to 100")
    skip_special_tokens: bool = True
    structured_outputs: Any = Field(None, description="as in chat completions")
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="variables for the template")
    priority: Int64 | None = Field(None, description="lower is sooner, with --scheduling-policy priority")
    request_id: str | None = Field(None, description="the response's id; begins with resp_")
    session_id: str | None = Field(None, description="ignored: there is one engine")
    cache_salt: str | None = Field(None, description="isolates this request's entries of the prefix cache")

    # Of features that there are not; whatever asks for them is refused by name.
    prompt: Any = None
    conversation: Any = None
    context_management: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    enable_response_messages: Any = None
    previous_input_messages: Any = None
    media_io_kwargs: Any = None
    mm_processor_kwargs: Any = None
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None
    watermarking: Any = None
    vllm_xargs: Any = None

    @property
    def is_stored(self) -> bool:
        return self.store is not False

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives per token; None without logprobs."""
        is_included = "message.output_text.logprobs" in (self.include or ())
        return (self.top_logprobs or 0) if is_included or self.top_logprobs else None

    @property
    def max_calls(self) -> int | None:
        """Calls of tools that the response may have; None: any number."""
        return 1 if self.parallel_tool_calls is False else self.max_tool_calls


_REFUSED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "prompt": ("there are no prompt templates here; send instructions and input", ()),
    "conversation": ("there are no conversations by id here; use previous_response_id", ()),
    "context_management": ("conversations are not compacted; use truncation", ([],)),
    "moderation": ("nothing is moderated here", ()),
    "prompt_cache_options": (
        "prompts are cached as they are; leave it out", ({}, {"mode": "implicit"}, {"mode": "implicit", "ttl": "30m"})
    ),
    "enable_response_messages": ("messages of prompts are not shown", (False,)),
    "previous_input_messages": ("use previous_response_id, or send all items", ([],)),
    "media_io_kwargs": ("this model reads text only", ({},)),
    "mm_processor_kwargs": ("this model reads text only", ({},)),
    "kv_transfer_params": ("there is one engine", ()),
    "ec_transfer_params": ("there is one engine", ()),
    "watermarking": ("answers have no watermarks", (False,)),
    "vllm_xargs": ("there is nothing that reads them", ({},)),
}  # fmt: skip
"""Field -> why it is refused, and the values that ask for what is so anyway."""


def check_request(body: ResponsesRequest) -> None:
    """All that can be said without the store, the template and the tokenizer. Raises `InvalidRequestError`."""
    for name, (why, neutral) in _REFUSED.items():
        value = getattr(body, name)
        if value is not None and value not in neutral:
            raise InvalidRequestError(f"{name} is not supported: {why}", param=name)
    if body.max_tool_calls is not None and body.max_tool_calls < 1:
        raise InvalidRequestError("max_tool_calls must be at least 1", param="max_tool_calls")
    if body.max_output_tokens is not None and body.max_output_tokens < 1:
        raise InvalidRequestError("max_output_tokens must be at least 1", param="max_output_tokens")
    _check_stream_options(body)
    _check_metadata(body.metadata or {})
    _check_id(body.request_id)
    if body.background and not body.is_stored:
        raise InvalidRequestError(
            "background=true needs store=true: the answer is fetched from the store", param="background"
        )


def _check_stream_options(body: ResponsesRequest) -> None:
    options = body.stream_options
    if options is None:
        return
    if not body.stream:
        raise InvalidRequestError("stream_options need stream=true", param="stream_options")
    if options.include_obfuscation:
        raise InvalidRequestError(
            "events are not padded here; set include_obfuscation to false or leave it out",
            param="stream_options.include_obfuscation",
        )


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > MAX_METADATA_PAIRS:
        raise InvalidRequestError(
            f"metadata may hold {MAX_METADATA_PAIRS} pairs, got {len(metadata)}", param="metadata"
        )
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY_CHARS:
            raise InvalidRequestError(
                f"keys of metadata may have {MAX_METADATA_KEY_CHARS} characters, got {len(key)}", param="metadata"
            )
        if len(value) > MAX_METADATA_VALUE_CHARS:
            raise InvalidRequestError(
                f"values of metadata may have {MAX_METADATA_VALUE_CHARS} characters, got {len(value)} for {key!r}",
                param="metadata",
            )


def _check_id(request_id: str | None) -> None:
    """It becomes a part of a path and of log lines."""
    if request_id is None:
        return
    rest = request_id.removeprefix("resp_")
    is_plain = rest.replace("-", "").replace("_", "").isalnum() and rest.isascii()
    if rest == request_id or not is_plain or len(request_id) > MAX_ID_CHARS:
        raise InvalidRequestError(
            f"request_id must be resp_ and letters, digits, - and _, {MAX_ID_CHARS} characters in all",
            param="request_id",
        )
