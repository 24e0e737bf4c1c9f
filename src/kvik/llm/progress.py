"""A bar of finished requests and the speed of their tokens. Knows no engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(total: int, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal.

    Yields what is called for each request that ends, with the number of its tokens.
    """
    if not is_shown or not sys.stderr.isatty():
        yield lambda _num_tokens: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    speed = "{task.fields[num_tokens]} tokens, {task.fields[tokens_per_s]:.0f} tokens/s"
    columns = ("Processed prompts", BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, num_tokens=0, tokens_per_s=0.0)
        start_s, num_tokens = time.monotonic(), 0

        def advance(num_new_tokens: int) -> None:
            nonlocal num_tokens
            num_tokens += num_new_tokens
            speed_now = num_tokens / max(time.monotonic() - start_s, 1e-9)
            bar.update(task, advance=1, num_tokens=num_tokens, tokens_per_s=speed_now)

        yield advance
