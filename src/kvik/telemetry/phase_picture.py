"""The phases of a start as a coloured table on a terminal. Imports rich, so it is for after the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvik.messages import Phase
from kvik.telemetry.phase_table import BAR_WIDTH, HEADINGS, table_rows

_COLOURS = ("cyan", "magenta", "green", "yellow")
_MIN_NAME_WIDTH = 20
_MIN_BAR_WIDTH = 5


def print_phases(phases: Sequence[Phase], began_s: float, stream: TextIO) -> None:
    """Write `phase_table`'s rows, a colour per process; names and bars are as wide as the terminal lets them be.

    Raises OSError where the terminal has gone.
    """
    console = Console(file=stream)
    rows = table_rows(phases, began_s)
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(HEADINGS) - 1)]
    widths = [max(width, len(heading)) for width, heading in zip(widths, HEADINGS, strict=False)]
    spare = console.width - sum(widths[1:]) - 2 * len(widths)
    widths[0] = max(_MIN_NAME_WIDTH, min(widths[0], spare - _MIN_BAR_WIDTH))
    bar_width = max(_MIN_BAR_WIDTH, min(BAR_WIDTH, spare - widths[0]))
    console.print(_table(table_rows(phases, began_s, bar_width), [*widths, bar_width]), no_wrap=True, crop=False)


def _table(rows: Sequence[tuple[str, ...]], widths: Sequence[int]) -> Table:
    table = Table(title="Phases of the start", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, (heading, width) in enumerate(zip(HEADINGS, widths, strict=True)):
        is_number = 2 <= place < len(HEADINGS) - 1
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True, width=width)
    colours: dict[str, str] = {}
    for *cells, bar in rows:
        colour = colours.setdefault(cells[1], _COLOURS[len(colours) % len(_COLOURS)]) if cells[1] else ""
        picture = Text(bar.replace("#", "\N{FULL BLOCK}"), style=colour)
        # Text, not str: a file of the checkpoint may be called [red].
        table.add_row(*(Text(cell, style="" if cells[1] else "bold") for cell in cells), picture)
    return table
