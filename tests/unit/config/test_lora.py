from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvik.config.args import EngineArgs
from kvik.config.lora import LoraConfig, LoraModule, lora_config_of, lora_modules_of
from kvik.config.resolve_server import server_config_of
from kvik.errors import ConfigError

ARGS = EngineArgs(enable_lora=True)


def config_of(**changes: Any) -> LoraConfig | None:
    return lora_config_of(replace(ARGS, **changes), "float32")


def test_off_by_default() -> None:
    assert lora_config_of(EngineArgs(max_loras=3), "bfloat16") is None


def test_what_was_asked() -> None:
    assert config_of() == LoraConfig(1, 16, 1, "float32")
    assert config_of(max_loras=3, max_lora_rank=64, lora_dtype="float16") == LoraConfig(3, 64, 3, "float16")
    assert config_of(max_loras=2, max_cpu_loras=5) == LoraConfig(2, 16, 5, "float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_loras": 0}, "--max-loras takes 1 to 1024, got 0"),
        ({"max_cpu_loras": 0}, "--max-cpu-loras takes 1 to 1024, got 0"),
        ({"max_loras": 4, "max_cpu_loras": 3}, "--max-cpu-loras 3 is below --max-loras 4"),
        ({"max_lora_rank": 24}, "--max-lora-rank takes one of 1, 8, 16, 32, 64, 128, 256, 320, 512, got 24"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**changes)


def test_modules_by_name_and_as_json() -> None:
    assert lora_modules_of(["a=/x/y=z", '{"name": "b", "path": "p", "base_model_name": "m"}']) == (
        LoraModule("a", "/x/y=z"),
        LoraModule("b", "p", "m"),
    )
    assert lora_modules_of(['[{"name": "b", "path": "p"}, {"name": "c", "path": "q"}]'])[1] == LoraModule("c", "q")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a", "takes name=path, or JSON objects, got 'a'"),
        ("=x", "takes name=path"),
        ("a=", "takes name=path"),
        ("{", "not usable JSON"),
        ('{"name": "a"}', "takes JSON objects such as"),
        ('{"name": "a", "path": 3}', "takes JSON objects such as"),
        ('{"name": "a", "path": "p", "rank": 3}', "takes JSON objects such as"),
        ("[1]", "takes JSON objects such as"),
    ],
)
def test_modules_that_are_none(entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lora_modules_of([entry])


def test_two_modules_of_one_name() -> None:
    with pytest.raises(ConfigError, match="two adapters of the name 'a'"):
        lora_modules_of(["a=x", "a=y"])


def test_modules_need_adapters_to_be_on() -> None:
    with pytest.raises(ConfigError, match="--lora-modules needs --enable-lora"):
        server_config_of({"lora_modules": ("a=x",)})
    assert server_config_of({"lora_modules": ("a=x",), "enable_lora": True}).lora_modules == ("a=x",)
