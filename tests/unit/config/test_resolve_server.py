from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvik.config.frontend import ServerConfig
from kvik.config.generation import GenerationDefaults
from kvik.config.resolve_server import server_config_of
from kvik.errors import ConfigError


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KVIK_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_values_of_other_rooms_are_left_alone() -> None:
    config = server_config_of({"port": 1, "max_num_seqs": 2, "model_tag": "m"}, GenerationDefaults({"top_p": 0.9}))
    assert config == ServerConfig(port=1, default_sampling_params={"top_p": 0.9})


def test_a_key_of_the_environment_gives_way_to_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "env")
    assert server_config_of({}).api_key == ("env",)
    assert server_config_of({"api_key": ("a", "b")}).api_key == ("a", "b")


def test_a_template_is_a_file_or_itself(tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{{ messages }}")
    assert server_config_of({"chat_template": str(file)}).chat_template == "{{ messages }}"
    assert server_config_of({"chat_template": "{{ x }}"}).chat_template == "{{ x }}"
    with pytest.raises(ConfigError, match="--chat-template takes a file, or the template itself"):
        server_config_of({"chat_template": "none.jinja"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 65536}, "--port takes 0"),
        ({"ssl_cert_reqs": 3}, "--ssl-cert-reqs takes 0, 1 or 2"),
        ({"api_key": ("",)}, "--api-key takes keys that are not empty"),
        ({"open_paths": ("/metrics",)}, "--open-paths is about servers with keys"),
        ({"api_key": ("k",), "open_paths": ("/v1/models",)}, "--open-paths takes any of /metrics"),
        (
            {"enable_lora": True, "allowed_lora_path": ("/nowhere/at/all",)},
            "--allowed-lora-path takes folders that exist",
        ),
        ({"allowed_lora_path": ("/",)}, "--allowed-lora-path needs --enable-lora"),
        ({"sse_keep_alive_interval": -1}, "--sse-keep-alive-interval takes 0 or more, got -1"),
        ({"shutdown_timeout": -1}, "--shutdown-timeout takes 0"),
        ({"max_stored_responses": -1}, "--max-stored-responses takes 0"),
        ({"max_stored_responses_bytes": -1}, "--max-stored-responses-bytes takes 0"),
        ({"stored_responses_max_age": -1}, "--stored-responses-max-age takes 0"),
        ({"max_background_responses": -1}, "--max-background-responses takes 0"),
        ({"max_log_len": -1}, "--max-log-len takes 0"),
        ({"h11_max_header_count": 0}, "--h11-max-header-count takes 1"),
        ({"max_n": 0}, "--max-n takes 1"),
        ({"default_chat_template_kwargs": [1]}, "--default-chat-template-kwargs takes a JSON object"),
        ({"enable_log_outputs": True}, "--enable-log-outputs needs --enable-log-requests"),
        ({"enable_per_request_metrics": True, "disable_log_stats": True}, "--enable-per-request-metrics needs"),
        ({"fingerprint_mode": "custom"}, "--fingerprint-mode custom and --fingerprint-value go together"),
        ({"fingerprint_value": "x"}, "--fingerprint-mode custom and --fingerprint-value go together"),
        ({"ssl_keyfile": __file__}, "--ssl-keyfile needs --ssl-certfile"),
        ({"ssl_certfile": "/no/such"}, "--ssl-certfile: there is no file /no/such"),
        ({"custom_histogram_buckets": {"x": [1]}}, "there is no family x"),
        ({"custom_histogram_buckets": [1]}, "takes a JSON object"),
        ({"metrics_prefix": "vllm"}, "--metrics-prefix: 'vllm' cannot begin names of metrics"),
        ({"metrics_prefix": "kvik:,"}, "--metrics-prefix: '' cannot begin names of metrics"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server_config_of(values)
    assert message in str(caught.value)


@pytest.mark.parametrize("bounds", [[], [2, 1], [1, 1], [0, 1], [1, "2"], [1, float("inf")], [True], 1])
def test_bounds_of_histograms(bounds: object) -> None:
    with pytest.raises(ConfigError, match="request_latency takes a list of rising, finite numbers above 0"):
        server_config_of({"custom_histogram_buckets": {"request_latency": bounds}})


def test_good_bounds_are_kept() -> None:
    buckets = {"request_latency": [0.5, 1]}
    assert server_config_of({"custom_histogram_buckets": buckets}).custom_histogram_buckets == buckets


def test_limits_are_flags_of_their_own() -> None:
    config = server_config_of({"max_n": 7, "max_body_bytes": 1 << 20, "port": 80})
    assert (config.limits.max_n, config.limits.max_body_bytes, config.limits.max_stop_strings) == (7, 1 << 20, 4)
