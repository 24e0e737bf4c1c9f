from __future__ import annotations

from typing import Any

import pytest

from kvik.config.admission import AdmissionConfig
from kvik.errors import ConfigError


@pytest.mark.parametrize(
    "flags",
    [
        {"max_queued_requests": -1},
        {"max_queued_tokens": -1},
        {"queue_timeout": -0.5},
        {"queue_timeout": float("nan")},
        {"fair_share_header": ""},
        {"fair_share_header": "X: Y"},
    ],
)
def test_values_that_mean_nothing(flags: dict[str, Any]) -> None:
    (name,) = flags
    with pytest.raises(ConfigError, match="--" + name.replace("_", "-")):
        AdmissionConfig(**flags)


def test_a_header() -> None:
    assert AdmissionConfig(fair_share_header="X-Tenant-Id").fair_share_header == "X-Tenant-Id"
