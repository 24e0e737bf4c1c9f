"""POST /generative_scoring: how likely the model goes on from query and item with one of the label tokens.

Per item one prompt, query ids then item ids (the other way round with item_first), and one step of the engine: what
the model says of the label tokens at the prompt's end. Items share their query through the prefix cache. The score is
the probability of the first label, among the labels (apply_softmax) or in the whole vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.sampling_params import MAX_LOGPROB_TOKEN_IDS, OutputKind, SamplingParams
from kvik.server.body import read_model
from kvik.server.disconnect import unless_disconnected
from kvik.server.fields import Int64, TokenId
from kvik.server.generation import EngineCall
from kvik.server.generation_start import start_generation
from kvik.server.request_id import priority_of, request_id_base
from kvik.server.request_log import RequestLog
from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of
from kvik.server.usage import UsageCounter
from kvik.server.validation import RequestModel
from kvik.text.outputs import RequestOutput
from kvik.text.processor import PromptOptions, TokenizedPrompt

Part = str | list[TokenId]


class GenerativeScoringRequest(RequestModel):
    """A query, items to score with it, and the tokens to compare."""

    query: Part = Field(description="text or token ids")
    items: list[Part] = Field(min_length=1, description="texts or lists of token ids, one score each")
    label_token_ids: list[TokenId] = Field(
        min_length=1, max_length=MAX_LOGPROB_TOKEN_IDS, description="the first one's probability is the score"
    )
    model: str | None = None
    apply_softmax: bool = Field(True, description="false: probabilities in the whole vocabulary")
    item_first: bool = Field(False, description="prompts are item, then query")
    add_special_tokens: bool = Field(True, description="begin each prompt as the tokenizer begins texts")
    cache_salt: str | None = None
    priority: Int64 | None = None
    request_id: str | None = Field(None, description="base of the answer's id; X-Request-Id wins")


async def generative_scoring(request: Request) -> Response:
    state = state_of(request)
    body = await read_model(request, GenerativeScoringRequest, state.limits)
    model = state.check_model(body.model)
    check_scoring_request(body, state.limits, state.client.config.model.logprobs_mode)
    request_id = f"score-{request_id_base(request, body.request_id, state.limits)}"
    call = EngineCall(
        prompts=await _prompts(body, state),
        params=SamplingParams(
            temperature=0, max_tokens=1, logprobs=0, logprob_token_ids=body.label_token_ids, detokenize=False,
            output_kind=OutputKind.FINAL_ONLY,
        ),
        request_id=request_id,
        priority=priority_of(request, body.priority),
        cache_salt=body.cache_salt,
        options=PromptOptions(),
    )  # fmt: skip
    log = RequestLog(state.config)
    outputs = await unless_disconnected(request.receive, _run(request, call, log))
    scores = [score(label_logprobs(output, body.label_token_ids), body.apply_softmax) for output in outputs]
    return json_response(_answer(request_id, model, scores, outputs, state.config.enable_prompt_tokens_details))


def check_scoring_request(body: GenerativeScoringRequest, limits: RequestLimits, logprobs_mode: str) -> None:
    """All that needs no tokenizer. Raises `InvalidRequestError` naming the field."""
    limits.check(len(body.items), limits.max_prompts, "items", "items")
    for where, part in (("query", body.query), *((f"items.{i}", item) for i, item in enumerate(body.items))):
        if not part:
            raise InvalidRequestError(f"{where} must not be empty", param=where)
    if len(set(body.label_token_ids)) != len(body.label_token_ids):
        raise InvalidRequestError("label_token_ids must differ from each other", param="label_token_ids")
    if not body.apply_softmax and not logprobs_mode.endswith("logprobs"):
        raise InvalidRequestError(
            f"apply_softmax=false needs probabilities, which --logprobs-mode {logprobs_mode} does not give",
            param="apply_softmax",
        )


def label_logprobs(output: RequestOutput, label_token_ids: Sequence[int]) -> list[float]:
    """Natural logarithms, in the order of the labels. Raises `InvalidRequestError` for a label that has none."""
    positions = output.outputs[0].logprobs
    position = positions[0] if positions else {}
    found = []
    for token_id in label_token_ids:
        entry = position.get(token_id)
        if entry is None or not math.isfinite(entry.logprob):
            raise InvalidRequestError(f"the label token {token_id} has no logprob here", param="label_token_ids")
        found.append(entry.logprob)
    return found


def score(logprobs: Sequence[float], apply_softmax: bool) -> float:
    """The probability of the first label, from 0 to 1."""
    if not apply_softmax:
        return math.exp(logprobs[0])
    best = max(logprobs)
    return math.exp(logprobs[0] - best) / sum(math.exp(logprob - best) for logprob in logprobs)


async def _prompts(body: GenerativeScoringRequest, state: ServerState) -> list[str | list[int]]:
    """Each part is tokenized by itself, so that the query's ids are the same for all items."""
    query_options = PromptOptions(add_special_tokens=body.add_special_tokens and not body.item_first)
    item_options = PromptOptions(add_special_tokens=body.add_special_tokens and body.item_first)
    (query,) = await _ids(state, [body.query], query_options)
    items = await _ids(state, body.items, item_options)
    return [item + query if body.item_first else query + item for item in items]


async def _ids(state: ServerState, parts: Sequence[Part], options: PromptOptions) -> list[list[int]]:
    found = await state.client.tokenize(parts, options)
    return [list(part.token_ids if isinstance(part, TokenizedPrompt) else part) for part in found]  # type: ignore[arg-type]


async def _run(request: Request, call: EngineCall, log: RequestLog) -> list[RequestOutput]:
    generation = await start_generation(request, call, log)
    try:
        return await generation.collect()
    finally:
        await generation.close()


def _answer(
    request_id: str, model: str, scores: list[float], outputs: Sequence[RequestOutput], with_details: bool
) -> dict[str, Any]:
    usage = UsageCounter(with_details)
    for index, output in enumerate(outputs):
        usage.add(index, output, 1)
    return {
        "id": request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [{"index": index, "object": "score", "score": value} for index, value in enumerate(scores)],
        "usage": usage.total(),
    }
