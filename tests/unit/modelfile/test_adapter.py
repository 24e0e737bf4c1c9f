from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from kvik.errors import ModelFileError
from kvik.modelfile.adapter import read_adapter_config

GOOD = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
Q0, Q1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"


def write(folder: Path, **changes: Any) -> Path:
    values = {name: value for name, value in {**GOOD, **changes}.items() if value != "left out"}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


def test_ranks_and_scales(tmp_path: Path) -> None:
    config = read_adapter_config(
        write(tmp_path, rank_pattern={"layers.1.self_attn.q_proj": 4}, alpha_pattern={f"^{Q0}": 2, "q_proj": 12})
    )
    assert (config.rank_of(Q0), config.rank_of(Q1)) == (8, 4)
    assert (config.scale_of(Q0), config.scale_of(Q1)) == (2 / 8, 12 / 4)
    assert config.scale_of("model.layers.1.self_attn.k_proj") == 2.0


def test_the_root_of_the_rank(tmp_path: Path) -> None:
    assert read_adapter_config(write(tmp_path, use_rslora=True)).scale_of(Q0) == 16 / math.sqrt(8)


def test_a_pattern_is_a_whole_name_or_its_end_from_a_dot_on(tmp_path: Path) -> None:
    config = read_adapter_config(write(tmp_path, rank_pattern={"proj": 2, "0\\.self_attn\\.q_proj": 3}))
    assert (config.rank_of(Q0), config.rank_of(Q1)) == (3, 8)


def test_what_asks_for_nothing_is_fine(tmp_path: Path) -> None:
    quiet = {"use_dora": False, "modules_to_save": None, "bias": "none", "init_lora_weights": True, "lora_bias": False}
    assert read_adapter_config(write(tmp_path, **quiet, fan_in_fan_out=False, new_field_of_peft=[])).rank == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "'peft_type' is 'PROMPT_TUNING'; kvik serves adapters of type 'LORA'"),
        ({"peft_type": "left out"}, "'peft_type' is missing"),
        ({"use_dora": True}, "'use_dora' is set, which is not supported"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save' is set"),
        ({"lora_bias": True}, "'lora_bias' is set"),
        ({"bias": "all"}, "'bias' is 'all'; only 'none'"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"trainable_token_indices": [3]}, "rows of the embedding"),
        ({"layer_replication": [[0, 1]]}, "repeats layers"),
        ({"alora_invocation_tokens": [1, 2]}, "from some token on"),
        ({"init_lora_weights": "pissa_niter_4"}, "a changed copy of the model's weights"),
        ({"r": 0}, "'r' is 0; it must be 1 to"),
        ({"r": "8"}, "'r' is '8'; it must be an integer"),
        ({"r": "left out"}, "'r' is missing"),
        ({"lora_alpha": float("nan")}, "'lora_alpha' is nan; it must be a finite number"),
        ({"lora_alpha": None}, "'lora_alpha' is null"),
        ({"rank_pattern": {"q_proj": -1}}, "rank_pattern: field 'q_proj' is -1"),
        ({"rank_pattern": {"(a+)+b": 4}}, "only names of modules are supported, not expressions"),
        ({"alpha_pattern": {"q\\w": 4}}, "only names of modules are supported, not expressions"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern: field 'q_proj' is 'x'; it must be a number"),
        ({"target_modules": [1]}, "'target_modules' must be a list of names, or an expression"),
    ],
)
def test_what_is_not_computed_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError) as raised:
        read_adapter_config(write(tmp_path, **changes))
    assert message in str(raised.value)
    assert "adapter_config.json" in str(raised.value)


def test_a_folder_without_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no LoRA adapter in .*: a PEFT folder has adapter_config.json and"):
        read_adapter_config(tmp_path)


def test_broken_json(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelFileError, match="not usable JSON"):
        read_adapter_config(tmp_path)
