from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvik.bench.datasets import Prompt
from kvik.cli.bench import serve, startup
from kvik.cli.bench.flags import read_flags
from kvik.cli.bench.latency import LatencyArgs
from kvik.cli.bench.latency import check as check_latency
from kvik.cli.bench.serve_args import ServeBenchArgs
from kvik.cli.bench.serve_prompts import make_prompts
from kvik.cli.bench.serve_target import find_server, name_values
from kvik.cli.bench.throughput import ThroughputArgs
from kvik.cli.bench.throughput import check as check_throughput
from kvik.cli.main import main
from kvik.errors import ConfigError, KvikError
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer

REPORT = {
    "status": "ready",
    "phases": [
        {"name": "bind socket", "process": "APIServer", "start_s": 0.25, "end_s": 0.5, "num_bytes": None},
        {"name": "load weights", "process": "EngineCore_DP0", "start_s": 1.0, "end_s": 1.5, "num_bytes": 7},
        {"name": "warm up", "process": "EngineCore_DP0", "start_s": 1.5, "end_s": None, "num_bytes": None},
    ],
}


def test_help_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2
    assert main(["bench", "--help"]) == 0
    assert "throughput" in capsys.readouterr().out
    assert main(["bench", "serv"]) == 2
    assert "unknown measurement serv; there are serve, latency, throughput, startup" in capsys.readouterr().err
    for command in ("serve", "latency", "throughput", "startup"):
        assert main(["bench", command, "--help"]) == 0
    assert "--num-iters-cold N" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--request-rate", "0"], "--request-rate must be above 0"),
        (["--goodput", "ttft"], "--goodput takes ttft:MS"),
        (["--metadata", "x"], "--metadata takes NAME=VALUE"),
        (["--percentile-metrics", "all"], "is none of"),
        (["--backend", "openai-chat", "--prompt-token-ids"], "a chat message is text"),
        (["--result-dir", "/no/such"], "there is no such folder"),
        (["--base-url", "localhost:80"], "is no address"),
        (["--backend", "tgi"], "--backend"),
        (["stray"], "what is 'stray'"),
        (["--tokenizer", "/no/such"], "there is no such folder or file"),
        (["--port", "1"], "cannot reach http://127.0.0.1:1"),
    ],
)
def test_serve_refuses_before_it_sends(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "serve", *flags]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_server_that_flags_describe_wholly_is_not_asked() -> None:
    model = str(embedded_model_path())
    args = ServeBenchArgs(base_url="http://h:9/x/", served_model_name="m", tokenizer=model, backend="openai-chat")
    endpoint, tokenizer = find_server(args)
    assert (endpoint.host, endpoint.port, endpoint.path) == ("h", 9, "/x/v1/chat/completions")
    assert (endpoint.model, tokenizer) == ("m", model)
    assert find_server(ServeBenchArgs(model="m", tokenizer=model))[0].model == "m"
    assert find_server(ServeBenchArgs(model=model, served_model_name="n"))[1] == model


def test_fields_of_bodies() -> None:
    args = read_flags(ServeBenchArgs, ["--ignore-eos", "--top-p", "0.5", "--logprobs", "2", "--extra-body.a", "1"], "")
    assert args is not None
    assert args.body_fields() == {"top_p": 0.5, "logprobs": 2, "ignore_eos": True, "a": 1}
    chat = ServeBenchArgs(backend="openai-chat", logprobs=2)
    assert chat.body_fields() == {"logprobs": True, "top_logprobs": 2}
    assert name_values("--x", ["a=b=c"]) == {"a": "b=c"}


def test_prompts_by_dataset(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(embedded_model_path())
    assert [
        p.output_len for p in make_prompts(ServeBenchArgs(num_prompts=2, input_len=4, output_len=3), tokenizer)
    ] == [3, 3]
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "Hej"}\n')
    custom = ServeBenchArgs(dataset_name="custom", dataset_path=str(path), num_prompts=2)
    [prompt, again] = make_prompts(custom, tokenizer)
    assert prompt == again
    assert "<|im_start|>user\nHej<|im_end|>" in prompt.text
    plain = ServeBenchArgs(dataset_name="custom", dataset_path=str(path), num_prompts=2, skip_chat_template=True,
                           no_oversample=True)  # fmt: skip
    assert [p.text for p in make_prompts(plain, tokenizer)] == ["Hej"]
    with pytest.raises(ConfigError, match="needs --dataset-path"):
        make_prompts(ServeBenchArgs(dataset_name="sharegpt"), tokenizer)
    with pytest.raises(ConfigError, match="lengths of their own"):
        make_prompts(ServeBenchArgs(dataset_name="sharegpt", dataset_path="x", input_len=3), tokenizer)


def test_the_name_of_a_result_file() -> None:
    args = ServeBenchArgs(max_concurrency=4)
    name = serve._file_name(args, {"model_id": "/models/m", "date": "20260101-000000"})
    assert name == "openai-infqps-concurrency4-m-20260101-000000.json"


def test_counts_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="--batch-size must be at least 1"):
        check_latency(LatencyArgs(batch_size=0))
    with pytest.raises(ConfigError, match="--output-json"):
        check_latency(LatencyArgs(output_json="/no/such/x.json"))
    with pytest.raises(ConfigError, match="--num-prompts must be at least 1"):
        check_throughput(ThroughputArgs(num_prompts=0))
    with pytest.raises(ConfigError, match="at least one start"):
        startup.check(startup.StartupArgs(num_iters_cold=0, num_iters_warm=0), [])


def test_engine_flags_that_are_not_there_yet_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "latency", "--fully-sharded-loras"]) == 2
    assert "not supported yet: --fully-sharded-loras" in capsys.readouterr().err


def test_phases_are_those_that_the_server_tells() -> None:
    start = startup.start_of(2.0, REPORT)
    assert start.phases == {"APIServer: bind socket": (0.25, 0.25), "EngineCore_DP0: load weights": (1.0, 0.5)}
    assert (start.seconds, start.explained_s) == (2.0, 0.75)


def test_a_server_that_tells_nothing_is_an_error() -> None:
    with pytest.raises(KvikError, match="GET /startup of the server failed"):
        startup.startup_report(1)


def test_what_is_passed_on_to_the_server() -> None:
    words = [
        "M",
        "--num-iters",
        "2",
        "--dtype",
        "float32",
        "--output_json=x",
        "--disable-tqdm",
        "--num-iters-cold",
        "0",
    ]
    assert startup.engine_words(words) == ["M", "--dtype", "float32"]


def test_startup_results_and_their_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starts = [startup.Start(s, {"b: late": (1.0, 0.5), "a: b": (0.0, s / 2)}, s * 0.9) for s in (2.0, 4.0, 3.0)]
    result = {"flags": ["M"], **startup.result_fields("warm", starts)}
    assert result["avg_warm_startup_time"] == 3.0
    assert list(result["warm_phases"].items()) == [("a: b", 1.5), ("b: late", 0.5)], "in the order of their beginnings"
    first_line, phase, late = startup.summary(result).splitlines()
    assert first_line == "warm: launch to ready 3.00 s (median of 3; 2.00 to 4.00 s; phases explain 90%)"
    assert phase.split() == ["a:", "b", "1.500", "s", "#" * 15]
    assert late.endswith(" s  " + " " * 10 + "#" * 5)
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(result))
    other = startup.result_fields("warm", [startup.Start(6.0, {"a: b": (0.0, 3.0), "a: new": (3.0, 1.0)}, 4.0)])
    second.write_text(json.dumps({"flags": ["N"], **other}))
    assert main(["bench", "startup", "--compare", str(first), str(second)]) == 0
    rows = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert "warm launch to ready 3.000 s 6.000 s +3.000 s 2.00" in rows
    assert "warm a: b 1.500 s 3.000 s +1.500 s 2.00" in rows
    assert "warm b: late 0.500 s - - -" in rows
    assert "warm a: new - 1.000 s - -" in rows
    assert "the flags differ: M, then N" in rows
    second.write_text("{}")
    with pytest.raises(KvikError, match="is no result of kvik bench startup"):
        startup.read_result(str(second))


def test_a_dropped_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 10000)
    startup.drop_from_cache([path])
    assert path.read_bytes() == b"x" * 10000


def test_prompt_records_compare_by_value() -> None:
    assert Prompt("a", 1, 2) == Prompt("a", 1, 2)
