from __future__ import annotations

import io

from kvik.runner.progress import LoadingBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_every_shard_on_one_line() -> None:
    stream = Terminal()
    bar = LoadingBar("safetensors", stream)
    bar.advance("a", 1, 2)
    bar.advance("b", 2, 2)
    assert stream.getvalue() == (
        "\rLoading safetensors checkpoint shards:  50% Completed | 1/2"
        "\rLoading safetensors checkpoint shards: 100% Completed | 2/2\n"
    )


def test_a_file_gets_the_last_line_only() -> None:
    stream = io.StringIO()
    bar = LoadingBar("gguf", stream)
    bar.advance("a", 1, 2)
    bar.advance("b", 2, 2)
    assert stream.getvalue() == "Loading gguf checkpoint shards: 100% Completed | 2/2\n"


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_nothing() -> None:
    LoadingBar("gguf", Full()).advance("a", 1, 1)


def test_a_bar_that_is_off_says_nothing() -> None:
    stream = Terminal()
    LoadingBar("gguf", stream, enabled=False).advance("a", 1, 1)
    assert stream.getvalue() == ""
