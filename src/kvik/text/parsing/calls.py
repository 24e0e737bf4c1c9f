"""Calls as JSON objects, `{"name": ..., "arguments": {...}}`, which most formats have between their markup."""

from __future__ import annotations

from collections.abc import Collection

from kvik.text.parsing.json_text import expect, read_object, read_text, read_value
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import NotTheFormat, Reader, Reading

ARGUMENTS = ("arguments", "parameters")
MAX_NAME_CHARS = 256


def read_call(reader: Reader, out: Outbox, known: Collection[str] | None = None, bare: bool = False) -> Reading[None]:
    """One call; its arguments are said as they come. Raises `NotTheFormat`.

    Once the call is certain the reader stops keeping. `known`: the names that a call may have; None: any. `bare`: there
    is no markup around it, so an object without arguments is no call.
    """
    name = None
    held: list[str] | None = None
    yield from expect(reader, "{")
    while True:
        key = yield from read_text(reader)
        yield from expect(reader, ":")
        if key == "name" and name is None:
            name = checked_name((yield from read_text(reader)), known)
            if held is not None:
                _begin(reader, out, name)
                out.arguments("".join(held))
        elif key in ARGUMENTS and held is None:
            held = []
            if name is None:
                held.append((yield from read_object(reader)))
            else:
                yield from read_arguments(reader, out, name)
        else:
            yield from read_value(reader, _ignore)
        if (yield from expect(reader, ",}")) == "}":
            break
    if name is None or (bare and held is None):
        raise NotTheFormat
    if held is None:
        _begin(reader, out, name)
        out.arguments("{}")


def read_arguments(reader: Reader, out: Outbox, name: str) -> Reading[None]:
    """The object of a call's arguments, streamed; as the text of an object in a string, at once."""
    if (yield from reader.skip_space()) == "{":
        _begin(reader, out, name)
        yield from read_value(reader, out.arguments)
    else:
        arguments = yield from read_object(reader)
        _begin(reader, out, name)
        out.arguments(arguments)


def read_calls(reader: Reader, out: Outbox, known: Collection[str] | None = None, bare: bool = False) -> Reading[None]:
    """A list of calls."""
    yield from expect(reader, "[")
    while True:
        yield from read_call(reader, out, known, bare)
        if (yield from expect(reader, ",]")) == "]":
            return


def attempt(reader: Reader, out: Outbox, reading: Reading[None]) -> Reading[bool]:
    """Whether `reading` found what it wants. If not, what was kept is content, or nothing where a call was certain."""
    try:
        yield from reading
    except NotTheFormat:
        if reader.is_keeping:
            out.content(reader.kept())
        return False
    if reader.is_keeping:
        reader.kept()
    return True


def checked_name(name: str, known: Collection[str] | None) -> str:
    """Raises `NotTheFormat` for what cannot be a function's name."""
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARS or (known is not None and name not in known):
        raise NotTheFormat
    return name


def _begin(reader: Reader, out: Outbox, name: str) -> None:
    reader.kept()
    out.begin_call(name)


def _ignore(text: str) -> None:
    """Other keys of a call ("type", "id") say nothing that is needed."""
