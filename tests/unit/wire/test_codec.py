"""Every message survives its trip, and broken frames say what they are."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.config import EngineConfig, ModelConfig, SchedulerConfig
from kvik.errors import WireError
from kvik.messages import (
    Abort,
    EngineFacts,
    EngineFailed,
    EventKind,
    FinishReason,
    Hello,
    NewRequest,
    Phase,
    Ready,
    RequestEvent,
    SchedulerStats,
    Shutdown,
    Start,
    StartFailed,
    StartupProgress,
    StepOutputs,
    TokenDelta,
    TokenLogprobs,
    UtilityCall,
    UtilityResult,
)
from kvik.modelfile.spec import Llama3RopeScaling, ModelSpec, RopeSpec
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.wire.codec import decode_from_engine, decode_to_engine, encode

texts = st.text(max_size=20)
tokens = st.integers(0, 2**31)
token_lists = st.lists(tokens, max_size=8)
times = st.floats(0, 1e9)
counts = st.integers(0, 2**40)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
params = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(-1, 100),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(st.text(min_size=1, max_size=5), max_size=3),
    stop_token_ids=token_lists,
    max_tokens=st.none() | st.integers(1, 10**6),
    logprobs=st.none() | st.integers(-1, 20),
    prompt_logprobs=st.none() | st.integers(-1, 20),
    logit_bias=st.none() | st.dictionaries(tokens, st.floats(-100, 100), max_size=3),
    bad_words_token_ids=st.lists(token_lists, max_size=2),
    output_kind=st.sampled_from(OutputKind),
    skip_reading_prefix_cache=st.none() | st.booleans(),
)
ropes = st.builds(
    RopeSpec,
    theta=times,
    llama3=st.none() | st.builds(Llama3RopeScaling, times, times, times, counts),
)
specs = st.builds(
    ModelSpec,
    architecture=texts,
    vocab_size=counts,
    hidden_size=counts,
    intermediate_size=counts,
    num_layers=counts,
    num_heads=counts,
    num_kv_heads=counts,
    head_dim=counts,
    max_position_embeddings=counts,
    rms_norm_eps=times,
    rope=ropes,
    sliding_windows=st.lists(counts, max_size=3).map(tuple),
    local_rope=st.none() | ropes,
    eos_token_ids=st.lists(counts, max_size=3).map(tuple),
)
configs = st.builds(
    EngineConfig,
    model=st.builds(ModelConfig, texts, specs, texts, st.lists(texts, min_size=1, max_size=3).map(tuple)),
    scheduler=st.builds(SchedulerConfig, max_num_batched_tokens=counts, policy=texts, watermark=times),
)
requests = st.builds(
    NewRequest,
    request_id=texts,
    prompt_token_ids=token_lists,
    sampling_params=params,
    arrival_time_s=times,
    eos_token_id=st.none() | tokens,
    priority=st.integers(-(2**31), 2**31),
    cache_salt=st.none() | texts,
)
to_engine = st.one_of(
    st.builds(Start, configs),
    requests,
    st.builds(Abort, st.lists(texts, max_size=3)),
    st.builds(UtilityCall, counts, texts, st.lists(plain, max_size=3)),
    st.just(Shutdown()),
)

logprobs = st.builds(
    TokenLogprobs, token_lists, st.lists(st.floats(max_value=0) | st.just(-math.inf), max_size=4), token_lists
)
deltas = st.builds(
    TokenDelta,
    request_id=texts,
    new_token_ids=token_lists,
    new_logprobs=st.none() | st.lists(logprobs, max_size=2),
    new_prompt_logprobs=st.none() | st.lists(st.none() | logprobs, max_size=2),
    finish_reason=st.none() | st.sampled_from(FinishReason),
    stop_reason=st.none() | tokens | texts,
    error=st.none() | texts,
    num_cached_tokens=counts,
    events=st.lists(st.builds(RequestEvent, st.sampled_from(EventKind), times), max_size=3),
)
phases = st.builds(Phase, texts, texts, times, times, counts)
facts = st.builds(EngineFacts, texts, texts, counts, counts, counts, counts, counts, counts)
from_engine = st.one_of(
    st.builds(Hello, counts),
    st.builds(StartupProgress, phases),
    st.builds(Ready, facts, st.lists(phases, max_size=3)),
    st.builds(StartFailed, texts, texts),
    st.builds(
        StepOutputs,
        st.lists(deltas, max_size=3),
        times,
        st.none() | st.builds(SchedulerStats, counts, counts, times, counts, counts, counts, st.booleans(), times),
    ),
    st.builds(UtilityResult, counts, plain, st.none() | texts),
    st.builds(EngineFailed, texts),
)


@settings(deadline=None)
@given(to_engine)
def test_messages_to_the_engine_survive(message: Any) -> None:
    assert decode_to_engine(encode(message)) == message


@settings(deadline=None)
@given(from_engine)
def test_messages_from_the_engine_survive(message: Any) -> None:
    assert decode_from_engine(encode(message)) == message


@given(st.binary(max_size=60))
def test_noise_is_a_wire_error(frame: bytes) -> None:
    with pytest.raises(WireError, match="cannot read a"):
        decode_to_engine(frame)


def test_deep_nesting_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="not msgpack"):
        decode_from_engine(b"\x91" * 100_000)


@settings(deadline=None)
@given(requests, st.data())
def test_a_cut_frame_is_a_wire_error(message: NewRequest, data: st.DataObject) -> None:
    frame = encode(message)
    with pytest.raises(WireError):
        decode_to_engine(frame[: data.draw(st.integers(0, len(frame) - 1))])


def test_a_broken_request_names_itself() -> None:
    frame = msgspec.msgpack.encode(["NewRequest", "r7", "not a list", {}, 0.0])
    with pytest.raises(WireError, match=r"message 'NewRequest' of \d+ bytes: Expected `array`, got `str`") as caught:
        decode_to_engine(frame)
    assert caught.value.request_id == "r7"


def test_values_that_sampling_params_refuse_are_a_wire_error() -> None:
    frame = msgspec.msgpack.encode(["NewRequest", "r7", [1], {"temperature": 9.0}, 0.0])
    with pytest.raises(WireError, match="temperature must be from 0 to 2, got 9") as caught:
        decode_to_engine(frame)
    assert caught.value.request_id == "r7"


def test_the_wrong_direction_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="Hello") as caught:
        decode_to_engine(encode(Hello(1)))
    assert caught.value.request_id is None


def test_what_has_no_form_cannot_be_sent() -> None:
    with pytest.raises(WireError, match=r"a UtilityResult cannot be sent: .*object"):
        encode(UtilityResult(1, object()))
