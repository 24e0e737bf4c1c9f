"""The Jinja environment of chat templates: what transformers' templates expect, inside a sandbox with limits.

A running template cannot be killed from outside, so it is made to stop by itself: the compiler plants a call at the
start of each loop body and each macro body, and that call ends a rendering that has used up its time. Output
is counted piece by piece; `*` and `**` may not make giant values.

These limits protect a server from long or hostile *messages* and from runaway loops. A template that is itself written
to fill the memory (doubling a string in a loop, say) is not held back: templates are the operator's, and one that
comes with a request is only read where the operator said so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

BUDGET = "_render_budget"
"""The template variable that holds the `RenderBudget` of a rendering."""
MAX_VALUE_LENGTH = 1 << 24
"""Characters or elements that `*` may make, and bits that `**` may."""


class RenderLimitError(jinja2.TemplateError):
    """A rendering has used up its time or its output."""


class RenderBudget:
    """What one rendering may still use. Called at the start of each loop and macro body."""

    def __init__(self, seconds: float, max_chars: int) -> None:
        self._seconds = seconds
        self._deadline_s = time.monotonic() + seconds
        self._max_chars = max_chars
        self._num_chars = 0

    def __call__(self) -> None:
        if time.monotonic() > self._deadline_s:
            raise RenderLimitError(f"rendering takes more than {self._seconds:g} seconds")

    def add_output(self, piece: str) -> None:
        self._num_chars += len(piece)
        if self._num_chars > self._max_chars:
            raise RenderLimitError(f"the rendered prompt has more than {self._max_chars} characters")
        self()


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks what a trainer's loss looks at; here only its body counts."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, the names that templates of Hugging Face models use, and the limits."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply and raise to a power, unless the result would be giant."""
        if operator == "*":
            _check_repetition(left, right)
            _check_repetition(right, left)
        elif _power_bits(left, right) > MAX_VALUE_LENGTH:
            raise RenderLimitError(f"** would make a number of more than {MAX_VALUE_LENGTH} bits")
        return super().call_binop(context, operator, left, right)

    def _generate(
        self, source: jinja2.nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        for loop in list(source.find_all(jinja2.nodes.For)):
            loop.body.insert(0, _budget_call(loop.lineno))
        for macro in list(source.find_all(jinja2.nodes.Macro)):
            macro.body.insert(0, _budget_call(macro.lineno))
        return super()._generate(source, name, filename, defer_init)


def _budget_call(lineno: int) -> jinja2.nodes.Node:
    name = jinja2.nodes.Name(BUDGET, "load")
    return jinja2.nodes.ExprStmt(jinja2.nodes.Call(name, [], [], None, None)).set_lineno(lineno)


def _check_repetition(value: Any, times: Any) -> None:
    if isinstance(value, (str, list, tuple)) and isinstance(times, int) and len(value) * times > MAX_VALUE_LENGTH:
        raise RenderLimitError(f"* would make a value of more than {MAX_VALUE_LENGTH} elements")


def _power_bits(base: Any, exponent: Any) -> int:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        return base.bit_length() * exponent
    return 0


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON. Jinja's own filter escapes for HTML, which no model has seen in training."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> str:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


_ENVIRONMENT = TemplateEnvironment()

compile_template: Callable[[str], jinja2.Template] = _ENVIRONMENT.from_string
"""Template text -> a template that renders within the `RenderBudget` in its variable `BUDGET`."""
parse_template: Callable[[str], jinja2.nodes.Template] = _ENVIRONMENT.parse
"""Template text -> its syntax tree. Both raise `jinja2.TemplateSyntaxError`."""
