"""Text completions, tokenization and the small routes."""

from __future__ import annotations

from openai import OpenAI

from support.server import MODEL, KvikServer

PROMPT = "The capital of France is"


def test_completion_of_text_of_ids_and_of_lists(client: OpenAI, server: KvikServer) -> None:
    tokens = server.request("POST", "/tokenize", {"prompt": PROMPT})[1]["tokens"]
    by_text = client.completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=8)
    by_ids = client.completions.create(model=MODEL, prompt=tokens, temperature=0, max_tokens=8)
    by_list = client.completions.create(model=MODEL, prompt=[PROMPT, PROMPT], temperature=0, max_tokens=8)
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert [c.text for c in by_list.choices] == [by_text.choices[0].text] * 2
    assert [c.index for c in by_list.choices] == [0, 1]
    assert by_list.usage.completion_tokens == 16


def test_echo_with_logprobs_scores_the_prompt(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=3, echo=True, logprobs=1, temperature=0)
    choice = answer.choices[0]
    assert choice.text.startswith(PROMPT)
    logprobs = choice.logprobs
    assert logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert "".join(logprobs.tokens) == choice.text
    assert len(logprobs.tokens) == answer.usage.total_tokens


def test_the_default_is_sixteen_tokens(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, temperature=0, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_streams_of_several_prompts_interleave_by_index(client: OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt=[PROMPT, "Once upon a time"], temperature=0, max_tokens=12)
    texts = {0: "", 1: ""}
    stream = client.completions.create(
        model=MODEL, prompt=[PROMPT, "Once upon a time"], temperature=0, max_tokens=12, stream=True
    )
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert [texts[0], texts[1]] == [c.text for c in whole.choices]


def test_allowed_tokens_bias_and_bad_words_act(client: OpenAI, server: KvikServer) -> None:
    (paris,) = server.request("POST", "/tokenize", {"prompt": " Paris"})[1]["tokens"]
    only = client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=3, temperature=0, extra_body={"allowed_token_ids": [paris]}
    )
    assert only.choices[0].text == " Paris" * 3
    biased = client.completions.create(
        model=MODEL, prompt="1 + 1 =", max_tokens=1, temperature=0, logit_bias={str(paris): 100}
    )
    assert biased.choices[0].text == " Paris"
    without = client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0, extra_body={"bad_words": ["Paris"]}
    )
    assert "Paris" not in without.choices[0].text


def test_tokenize_and_detokenize_are_inverse(server: KvikServer) -> None:
    text = "Hello, wörld! 🦊\n  def f(): pass"
    status, body, _ = server.request("POST", "/tokenize", {"prompt": text})
    assert status == 200
    assert body["count"] == len(body["tokens"])
    assert server.request("POST", "/detokenize", {"tokens": body["tokens"]})[1] == {"prompt": text}


def test_the_small_routes_answer(server: KvikServer) -> None:
    assert server.request("GET", "/health")[:2] == (200, "")
    assert server.request("GET", "/ping")[0] == 200
    assert server.request("GET", "/load")[1] == {"server_load": 0}
    assert set(server.request("GET", "/version")[1]) == {"version"}
    models = server.request("GET", "/v1/models")[1]
    assert [m["id"] for m in models["data"]] == [MODEL]
    assert models["data"][0]["max_model_len"] == 8192
    assert server.request("GET", "/docs")[0] == 200


def test_metrics_count_what_was_done(client: OpenAI, server: KvikServer) -> None:
    before = server.metric("vllm:generation_tokens_total")
    client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=7, temperature=0, extra_body={"ignore_eos": True})
    assert server.metric("vllm:generation_tokens_total") == before + 7
    assert server.metric("vllm:num_requests_running") == 0
    assert server.metric("vllm:request_success_total", finished_reason="length") > 0
