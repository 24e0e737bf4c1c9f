"""What `kvik plan` says and what a server does, to the block."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from support.server import KvikServer

FLAGS = ("--device-memory", "4GiB", "--max-model-len", "4096")


def test_plan_and_server_agree_to_the_block() -> None:
    command = [sys.executable, "-m", "kvik", "plan", "--device", "cpu", *FLAGS, "--json"]
    whole = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    planned = whole["kv_cache"]
    with KvikServer(*FLAGS) as server:
        metrics = server.request("GET", "/metrics")[1]
        log = server.log
        status, served, _ = server.request("GET", "/plan")
    assert f'num_gpu_blocks="{planned["num_blocks"]}"' in metrics
    found = re.search(r"KV cache size: ([\d,]+) tokens", log)
    assert found is not None
    assert int(found[1].replace(",", "")) == planned["num_tokens"]
    assert status == 200
    assert served["kv_cache"] == planned
    assert served["memory"]["weights_bytes"] == whole["memory"]["weights_bytes"]
    assert served["fits"]
    ledger = {line["part"]: line for line in served["ledger"]}
    assert ledger["kv_cache"]["bytes"] <= planned["pool_bytes"] == ledger["kv_cache"]["limit_bytes"]
