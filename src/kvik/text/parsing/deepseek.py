"""DeepSeek: calls between tokens of their own. V3 and R1 write `function`, the name, and arguments in a fenced block:

    <calls begin><call begin>function<sep>NAME
    ```json
    {...}
    ```<call end><calls end>

V3.1 writes `<calls begin><call begin>NAME<sep>{...}<call end><calls end>`. Both are read, whatever the model.
"""

from __future__ import annotations

from collections.abc import Collection

from kvik.text.parsing.calls import attempt, read_arguments
from kvik.text.parsing.mistral import read_name
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import Markers, NotTheFormat, Reader, Reading
from kvik.text.parsing.tool_format import CallMarkup, tool_format


def _token(words: str) -> str:
    """DeepSeek's spelling, with full-width bars and low blocks."""
    return "<\uff5c" + words.replace(" ", "\u2581") + "\uff5c>"


CALLS_BEGIN, CALLS_END = _token("tool calls begin"), _token("tool calls end")
CALL_BEGIN, CALL_END, SEP = _token("tool call begin"), _token("tool call end"), _token("tool sep")
MARKERS = (CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEP)
_BEGINS = Markers(CALLS_BEGIN, CALL_BEGIN)
_CALL_BEGIN, _SEP, _ENDS = Markers(CALL_BEGIN), Markers(SEP), Markers(CALL_END, CALLS_END)
_FENCE_BEGIN, _FENCE_END = Markers("```json"), Markers("```")


def read(reader: Reader, out: Outbox, known: Collection[str]) -> Reading[None]:
    del known
    while begin := (yield from reader.until(_BEGINS, out.content)):
        reader.keep(begin)
        if not (yield from attempt(reader, out, _call(reader, out, begin))):
            continue
        reader.keep()
        yield from reader.skip_space()
        while (yield from reader.match(_ENDS)):
            reader.keep()
            yield from reader.skip_space()
        out.content(reader.kept())


def _call(reader: Reader, out: Outbox, begin: str) -> Reading[None]:
    if begin == CALLS_BEGIN:
        yield from reader.skip_space()
        yield from _expect(reader, _CALL_BEGIN)
    name = yield from read_name(reader)
    yield from _expect(reader, _SEP)
    has_fence = (yield from reader.skip_space()) != "{"
    if has_fence:
        name = yield from read_name(reader)
        yield from reader.skip_space()
        yield from _expect(reader, _FENCE_BEGIN)
        if (yield from reader.skip_space()) != "{":
            raise NotTheFormat
    yield from read_arguments(reader, out, name)
    if has_fence:
        yield from reader.skip_space()
        yield from reader.match(_FENCE_END)


def _expect(reader: Reader, markers: Markers) -> Reading[None]:
    if not (yield from reader.match(markers)):
        raise NotTheFormat


DEEPSEEK_V3 = tool_format(
    read,
    MARKERS,
    CallMarkup(f"{CALL_BEGIN}function{SEP}", "\n```json\n", f"\n```{CALL_END}", "\n", begin=CALLS_BEGIN, end=CALLS_END),
)
DEEPSEEK_V31 = tool_format(read, MARKERS, CallMarkup(CALL_BEGIN, SEP, CALL_END, begin=CALLS_BEGIN, end=CALLS_END))
