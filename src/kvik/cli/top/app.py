"""The screen of `kvik top`: asks the source in a thread, shows what it said. The only file that knows textual."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Sparkline, Static

from kvik.cli.top.figures import History
from kvik.cli.top.source import Snapshot, Source
from kvik.cli.top.texts import COLUMNS, figure_lines, memory_lines, request_row, state_line

_NUM_RATES = 120
"""Points of the line of tokens per second."""


class TopApp(App[None]):
    """One server, looked at every `interval_s` seconds until somebody leaves."""

    TITLE = "kvik top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #state { padding: 0 1; background: $panel; text-style: bold; }
    #state.bad { background: $error; color: $text; }
    #state.soon { background: $warning; color: $text; }
    #figures { height: auto; padding: 1 1 0 1; }
    #rates { height: 2; margin: 0 1; }
    #requests { height: 1fr; min-height: 4; }
    #note { padding: 0 1; color: $text-muted; }
    #memory_scroll { height: auto; max-height: 9; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("c", "cancel", "Cancel the request"),
        Binding("p", "pause", "Pause"),
    ]

    def __init__(self, source: Source, interval_s: float) -> None:
        super().__init__()
        self._source = source
        self._interval_s = interval_s
        self._history = History()
        self._rates: list[float] = []
        self._is_looking = False
        self._is_paused = False

    def compose(self) -> ComposeResult:
        yield Static(f"{self._source.url}  asking", id="state", markup=False)
        yield Static("", id="figures", markup=False)
        yield Sparkline([], id="rates")
        table: DataTable[Text] = DataTable(id="requests", cursor_type="row", zebra_stripes=True)
        yield table
        yield Static("", id="note", markup=False)
        yield VerticalScroll(Static("", id="memory", markup=False), id="memory_scroll")
        yield Footer()

    def on_mount(self) -> None:
        self._table.add_columns(*COLUMNS)
        self.set_interval(self._interval_s, self._tick)
        self._tick()

    def _tick(self) -> None:
        """One look at a time: a server that answers slowly is asked less often."""
        if not self._is_looking and not self._is_paused:
            self._is_looking = True
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        try:
            self.show(await asyncio.to_thread(self._source.read))
        finally:
            self._is_looking = False

    def show(self, snapshot: Snapshot) -> None:
        """All of the screen. Where the server is away, the last figures would be lies, so they go."""
        state = self.query_one("#state", Static)
        state.update(state_line(snapshot, self._source.url))
        state.set_class(snapshot.status in ("unreachable", "dead"), "bad")
        state.set_class(snapshot.status in ("starting", "recovering", "draining"), "soon")
        self._show_figures(snapshot)
        self._show_requests(snapshot)

    def _show_figures(self, snapshot: Snapshot) -> None:
        if snapshot.scrape is None:
            self._history.clear()
        else:
            self._history.add(snapshot.at_s, snapshot.scrape)
        figures = self._history.figures()
        lines = [snapshot.metrics_note] if figures is None else figure_lines(figures)
        self.query_one("#figures", Static).update("\n".join(lines))
        self.query_one("#memory", Static).update("\n".join(memory_lines(figures.memory)) if figures else "")
        rate = figures.generated_tokens_per_s if figures else None
        self._rates = [*self._rates, rate or 0.0][-_NUM_RATES:]
        self.query_one(Sparkline).data = self._rates

    def _show_requests(self, snapshot: Snapshot) -> None:
        """The cursor stays on its request while that one lives."""
        chosen, table = self._chosen(), self._table
        table.clear()
        rows = snapshot.requests or ()
        for request in rows:
            table.add_row(*map(Text, request_row(request)), key=request.key)
        ids = [request.key for request in rows]
        if chosen in ids:
            table.move_cursor(row=ids.index(chosen))
        note = snapshot.requests_note or ("" if rows or snapshot.scrape is None else "no live requests")
        self.query_one("#note", Static).update(note)

    def _chosen(self) -> str | None:
        """The key of the row below the cursor."""
        table = self._table
        if not table.is_valid_coordinate(table.cursor_coordinate):
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#requests", DataTable)

    async def action_cancel(self) -> None:
        chosen = self._chosen()
        if chosen is None:
            self.notify("no request is chosen", severity="warning")
            return
        request_id = chosen.rpartition("/")[0]
        self.notify(await asyncio.to_thread(self._source.cancel, request_id), markup=False)
        self._tick()

    def action_pause(self) -> None:
        self._is_paused = not self._is_paused
        self.notify("paused; p goes on" if self._is_paused else "goes on")
        self._tick()
