"""How each engine is started, which files it can read, and what it needs around it. Measures nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvik.bench.process import HOST, ServerProcess, free_port

KVIK, LLAMA, VLLM = "kvik", "llama-server", "vLLM"
READY_TIMEOUT_S = {KVIK: 300.0, LLAMA: 300.0, VLLM: 900.0}
MODEL_NAME = "m"
PRELOADED = ("libtcmalloc_minimal.so.4", "libiomp5.so")
"""Libraries that vLLM's log advises to preload: with them it is some 10 % faster."""


@dataclass(frozen=True)
class Contestant:
    """One engine with one model and its flags, as a row of a table."""

    label: str
    engine: str
    model: str
    """Key of the model files that were given: "smollm2", "llama-1b-q8_0"."""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Installed:
    """What there is on this machine."""

    programs: Mapping[str, str]
    """Engine -> its program. kvik is this checkout and is always there."""
    models: Mapping[str, Path]
    """Model key -> Hugging Face folder or .gguf file."""
    num_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def obstacle(self, contestant: Contestant) -> str | None:
        """Why it cannot take part, or None."""
        if contestant.engine != KVIK and contestant.engine not in self.programs:
            return f"no {contestant.engine} was given"
        path = self.models.get(contestant.model)
        if path is None:
            return f"no --model {contestant.model}=PATH was given"
        is_gguf = path.suffix == ".gguf"
        if contestant.engine == LLAMA and not is_gguf:
            return f"llama-server reads .gguf files only, and {contestant.model} is a folder"
        if contestant.engine == VLLM and is_gguf:
            return f"vLLM is measured on Hugging Face folders, and {contestant.model} is a .gguf file"
        return None

    def server(self, contestant: Contestant, log_dir: Path) -> ServerProcess:
        """Its server, not started yet."""
        port = free_port()
        log = log_dir / f"{contestant.label.replace(' ', '-').replace('/', '-')}-{port}.log"
        command = self._command(contestant, port)
        timeout_s = READY_TIMEOUT_S[contestant.engine]
        return ServerProcess(command, port, log, env=self._env(contestant), ready_timeout_s=timeout_s)

    def _command(self, contestant: Contestant, port: int) -> list[str]:
        path, address = str(self.models[contestant.model]), ["--host", HOST, "--port", str(port)]
        if contestant.engine == LLAMA:
            # 32 slots of 1,024 tokens: its cache is taken at the start, and more would only lengthen that.
            slots = ["-t", str(self.num_threads), "-np", "32", "-c", "32768", "--alias", MODEL_NAME]
            return [self.programs[LLAMA], "-m", path, *slots, *address, *contestant.flags]
        common = ["--served-model-name", MODEL_NAME, "--max-model-len", "4096", *address, *contestant.flags]
        program = [sys.executable, "-m", "kvik"] if contestant.engine == KVIK else [self.programs[VLLM]]
        return [*program, "serve", path, *common]

    def _env(self, contestant: Contestant) -> dict[str, str]:
        if contestant.engine == LLAMA:
            return {"LD_LIBRARY_PATH": str(Path(self.programs[LLAMA]).parent)}
        if contestant.engine == KVIK:
            return {}
        env = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
               "VLLM_CPU_OMP_THREADS_BIND": f"0-{self.num_threads - 1}", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
               "DO_NOT_TRACK": "1", "PYTHONPATH": ""}  # fmt: skip
        if libraries := preloads(Path(self.programs[VLLM]).parent.parent):
            env["LD_PRELOAD"] = ":".join(map(str, libraries))
        return env


def preloads(environment: Path) -> list[Path]:
    """tcmalloc of the system and libiomp5 of vLLM's environment, as far as they are there."""
    places = [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path("/usr/lib"), environment / "lib"]
    return [place / name for name in PRELOADED if (place := _place_of(name, places)) is not None]


def _place_of(name: str, places: list[Path]) -> Path | None:
    direct = next((place for place in places if (place / name).exists()), None)
    if direct is not None:
        return direct
    found = next(places[-1].rglob(name), None)
    return None if found is None else found.parent
