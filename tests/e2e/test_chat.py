"""Chat completions through the `openai` client, streamed and not."""

from __future__ import annotations

from openai import OpenAI

from support.server import MODEL

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def test_the_capital_of_france_is_paris(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    choice = answer.choices[0]
    assert "Paris" in choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.model == MODEL
    assert answer.id.startswith("chatcmpl-")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_says_the_same_as_an_answer_at_once(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    stream = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_second_ask_finds_its_prompt_in_the_cache(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "Tell me about the sea. " * 12}]
    first = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=8)
    second = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=8)
    assert second.usage.prompt_tokens_details.cached_tokens >= 16
    assert second.choices[0].message.content == first.choices[0].message.content


def test_a_seed_repeats_and_n_siblings_differ(client: OpenAI) -> None:
    def ask(seed: int) -> list[str]:
        answer = client.chat.completions.create(
            model=MODEL, messages=QUESTION, temperature=1.2, seed=seed, n=3, max_tokens=24
        )
        assert [c.index for c in answer.choices] == [0, 1, 2]
        return [c.message.content for c in answer.choices]

    first = ask(7)
    assert first == ask(7)
    assert len(set(first)) > 1
    assert first != ask(8)


def test_logprobs_have_the_chosen_token_first(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3
    )
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 5
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)
        assert bytes(entry.bytes).decode(errors="replace")
    assert "".join(e.token for e in entries) == answer.choices[0].message.content


def test_a_stop_string_ends_the_answer_before_itself(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, stop=["Paris"])
    choice = answer.choices[0]
    assert "Paris" not in choice.message.content
    assert choice.finish_reason == "stop"
    assert choice.stop_reason == "Paris"


def test_length_ends_with_length(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 2


def test_a_system_message_and_content_parts_reach_the_template(client: OpenAI) -> None:
    messages = [
        {"role": "system", "content": "You are a helpful geographer."},
        {"role": "user", "content": [{"type": "text", "text": part} for part in ("What is the capital", "of France?")]},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=30)
    assert "Paris" in answer.choices[0].message.content
