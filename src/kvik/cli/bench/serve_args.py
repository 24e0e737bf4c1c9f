"""The flags of `kvik bench serve`, named and set as the field's. Reads no file and opens no socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvik.bench.endpoint import BACKENDS
from kvik.config.flags import flag

DATASETS = ("random", "sharegpt", "custom", "prefix_repetition")


@dataclass(frozen=True, kw_only=True)
class ServeBenchArgs:
    """What to send, how fast, and what to do with the numbers."""

    backend: str = flag("openai", "kind of request: completions, or one chat message", choices=BACKENDS)
    base_url: str | None = flag(None, "the server, http://HOST:PORT; wins over --host and --port")
    host: str = flag("127.0.0.1", "the server's address")
    port: int = flag(8000, "the server's port")
    endpoint: str | None = flag(None, "path of the requests; unset: /v1/completions, or /v1/chat/completions for chat")
    header: tuple[str, ...] = flag((), "further headers, NAME=VALUE; KVIK_API_KEY makes one by itself")
    insecure: bool = flag(False, "take any certificate of an https server", kind="switch")
    model: str | None = flag(None, "model of the server, or its folder; unset: the first that the server names")
    served_model_name: str | None = flag(None, "name that requests carry, where it is not --model")
    tokenizer: str | None = flag(None, "folder or .gguf file to count and make prompts with; unset: the model's")

    dataset_name: str = flag("random", "where prompts come from", choices=DATASETS)
    dataset_path: str | None = flag(None, "file of sharegpt (JSON) or custom (lines of JSON with a prompt each)")
    num_prompts: int = flag(1000, "requests in all")
    input_len: int | None = flag(None, "in place of the dataset's own input length")
    output_len: int | None = flag(None, "in place of the dataset's own output length")
    random_input_len: int = flag(1024, "tokens of a random prompt")
    random_output_len: int = flag(128, "tokens to generate for one")
    random_range_ratio: float = flag(0.0, "lengths vary evenly from (1 - this) to (1 + this) times")
    random_prefix_len: int = flag(0, "tokens before those, the same for all prompts")
    sharegpt_output_len: int | None = flag(None, "tokens to generate; unset: as many as the file's answer has")
    custom_output_len: int = flag(256, "tokens to generate; -1: what output_tokens of the line says")
    skip_chat_template: bool = flag(False, "send custom prompts as they are", kind="switch")
    prefix_repetition_prefix_len: int = flag(256, "tokens of a shared prefix")
    prefix_repetition_suffix_len: int = flag(256, "tokens after it, each prompt's own")
    prefix_repetition_num_prefixes: int = flag(10, "different prefixes")
    prefix_repetition_output_len: int = flag(128, "tokens to generate")
    disable_shuffle: bool = flag(False, "keep the dataset's order", kind="switch")
    no_oversample: bool = flag(False, "fewer requests where a file has fewer prompts", kind="switch")
    prompt_token_ids: bool = flag(
        False, "send prompts as token ids: exact lengths, for completions of servers that take them", kind="switch",
        ours=True,
    )  # fmt: skip

    request_rate: float = flag(float("inf"), "requests per second; inf: all at once")
    burstiness: float = flag(1.0, "1: a Poisson process; below: burstier; above: steadier")
    max_concurrency: int | None = flag(None, "most requests at once")
    num_warmups: int = flag(0, "requests sent before, and not counted")
    ready_check_timeout_sec: int = flag(0, "wait so long for a first answer; 0: do not ask")
    request_timeout_sec: float | None = flag(None, "give a request up after so long; unset: never", ours=True)
    seed: int = flag(0, "of prompts and of their times")

    ignore_eos: bool = flag(False, "generate all tokens asked for, past the end token", kind="switch")
    temperature: float | None = flag(None, "sampling; unset: the server's default")
    top_p: float | None = flag(None, "sampling")
    top_k: int | None = flag(None, "sampling")
    min_p: float | None = flag(None, "sampling")
    frequency_penalty: float | None = flag(None, "sampling")
    presence_penalty: float | None = flag(None, "sampling")
    repetition_penalty: float | None = flag(None, "sampling")
    logprobs: int | None = flag(None, "log-probabilities to ask for with each token")
    extra_body: dict[str, Any] = flag({}, "further fields of each request, a JSON object")  # noqa: RUF009

    percentile_metrics: str = flag("ttft,tpot,itl", "latencies to print: ttft, tpot, itl, e2el")
    metric_percentiles: str = flag("99", "their percentiles: 50,90,99.9")
    goodput: tuple[str, ...] = flag((), "limits that a good request keeps, ms: ttft:200 tpot:50 e2el:5000")
    save_result: bool = flag(False, "write a JSON file", kind="switch")
    save_detailed: bool = flag(False, "and in it every request's times, text and error", kind="switch")
    result_dir: str | None = flag(None, "its folder; unset: the present one")
    result_filename: str | None = flag(None, "its name; unset: made of label, rate, model and time")
    label: str | None = flag(None, "name of the run in the file and its name; unset: the backend")
    metadata: tuple[str, ...] = flag((), "KEY=VALUE for the file: version=1 tp=1")
    plot: str | None = flag(None, "write a picture (.png, .svg, .pdf): latency over time and by percentile", ours=True)
    disable_tqdm: bool = flag(False, "no progress bar", kind="switch")

    def body_fields(self) -> dict[str, Any]:
        """Fields of every request that flags ask for."""
        names = ("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty",
                 "repetition_penalty")  # fmt: skip
        chosen = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.logprobs is not None:
            is_chat = self.backend == "openai-chat"
            chosen |= {"logprobs": True, "top_logprobs": self.logprobs} if is_chat else {"logprobs": self.logprobs}
        return chosen | ({"ignore_eos": True} if self.ignore_eos else {}) | self.extra_body
