"""From the body of a chat request to all that running and answering it needs. Knows no engine and no HTTP answer.

Every API that is a conversation underneath (chat completions, responses, messages) comes through here, so that checks,
templates, limits and parsers are the same for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.server.chat.answer_plan import AnswerPlan
from kvik.server.chat.prompt import echo_text, render_prompt, response_role
from kvik.server.chat.protocol import ChatCompletionRequest, check_chat_request
from kvik.server.chat.tools import Choice, ToolUse, template_tools, tool_use
from kvik.server.engine_call import to_engine_call
from kvik.server.fields import to_sampling_params
from kvik.server.generation import EngineCall
from kvik.server.state import ServerState
from kvik.text.parsing import AnswerParser, PlainParser
from kvik.text.parsing.reasoning import Begin
from kvik.text.parsing.reasoning_tokens import ReasoningTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedChat:
    """A conversation that the engine can be asked to continue."""

    body: ChatCompletionRequest
    request_id: str
    created_s: int
    """Unix time."""
    model: str
    """The name for the answer."""
    role: str
    """Who speaks the answer."""
    prompt_text: str
    echo_text: str
    """Put before each answer; the last message's content, if `echo` asks for it."""
    call: EngineCall
    use: ToolUse
    """The tools, and what is wanted of them."""
    new_parser: Callable[[], AnswerParser]
    """A parser for one answer; each of `n` needs its own."""
    new_counter: Callable[[], ReasoningTokens] | None
    """Counts one answer's tokens of reasoning; None where no format of reasoning is configured."""

    @property
    def has_plain_answers(self) -> bool:
        """Answers are content and nothing else, so that their text needs no parser."""
        return self.new_parser is PlainParser


async def prepare_chat(body: ChatCompletionRequest, state: ServerState, request_id: str, priority: int) -> PreparedChat:
    """Check and render a conversation. Raises `InvalidRequestError` or `UnknownModelError`, naming the field."""
    model, lora = state.check_model(body.model), state.lora_of(body.model)
    check_chat_request(body, state.limits)
    use = tool_use(body, state.config, state.limits)
    prompt_text = await render_prompt(body, state, _template_tools(body, use, state))
    role = response_role(body, state.config.response_role)
    plan = _answer_plan(body, state, use, prompt_text)
    params = plan.applied_to(_sampling_params(body, state))
    return PreparedChat(
        body=body,
        request_id=request_id,
        created_s=int(time.time()),
        model=model,
        role=role,
        prompt_text=prompt_text,
        echo_text=echo_text(body, role),
        call=to_engine_call(body, [prompt_text], params, state.limits, request_id, priority, lora),
        use=use,
        new_parser=plan.new_parser,
        new_counter=plan.new_counter,
    )


def _template_tools(body: ChatCompletionRequest, use: ToolUse, state: ServerState) -> list[dict[str, Any]] | None:
    """The tools that the prompt tells of, as they came."""
    if use.choice == Choice.NONE and state.config.exclude_tools_when_tool_choice_none:
        return None
    return template_tools(body.tools)


def _answer_plan(body: ChatCompletionRequest, state: ServerState, use: ToolUse, prompt_text: str) -> AnswerPlan:
    reasoning = state.formats.reasoning
    begin = Begin.BEHIND_REASONING
    if reasoning is not None:
        begin = reasoning.beginning_after(prompt_text, continues_answer=body.continue_final_message)
    return AnswerPlan(
        use=use,
        formats=state.formats,
        begin=begin,
        tokenizer=state.client.tokenizer,
        strict_level=state.config.tool_strict_level,
        hides_special_tokens=body.skip_special_tokens,
    )


def in_chat_terms(error: InvalidRequestError, body: ChatCompletionRequest) -> InvalidRequestError:
    """The client said `top_logprobs` and perhaps `max_completion_tokens`: name what it said."""
    names = {"logprobs": "top_logprobs"}
    if body.max_completion_tokens is not None:
        names["max_tokens"] = "max_completion_tokens"
    name = names.get(error.param or "")
    if name is None or error.param is None:
        return error
    return InvalidRequestError(error.message.replace(error.param, name, 1), param=name)


def _sampling_params(body: ChatCompletionRequest, state: ServerState) -> SamplingParams:
    defaults = state.config.default_sampling_params
    max_tokens = state.cap_max_tokens(body.asked_max_tokens)
    echoes_logprobs = body.echo and not body.stream and body.prompt_logprobs is None
    return to_sampling_params(
        body,
        defaults,
        max_tokens=state.default_max_tokens if max_tokens is None else max_tokens,
        logprobs=body.num_logprobs,
        prompt_logprobs=body.num_logprobs if echoes_logprobs else body.prompt_logprobs,
    )
