"""The Jinja environment of chat templates: what transformers' templates expect, inside a sandbox with limits.

A running template cannot be killed from outside, so it is made to stop by itself: the compiler plants a call at the
start of each loop body and each macro body, and that call ends a rendering that has used up its time, or during which
the process has grown by too much. Output is counted piece by piece, and no operation may make a giant value
(`growth.py`). The call reaches its budget by a name that no template can write, so none can put another in its place.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from kvik.text import growth

BUDGET = "render budget"
"""The variable that holds the `RenderBudget` of a rendering; with a space, it is no name in a template."""
MAX_GROWTH_BYTES = 1 << 30
"""By which this process may grow while one template is rendered."""
_LOOK_INTERVAL_S = 0.001
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class RenderLimitError(jinja2.TemplateError):
    """A rendering has used up its time or its output."""


class RenderBudget:
    """What one rendering may still use. Called at the start of each loop and macro body."""

    def __init__(self, seconds: float, max_chars: int) -> None:
        self._seconds = seconds
        self._deadline_s = time.monotonic() + seconds
        self._max_chars = max_chars
        self._num_chars = 0
        self._looked_at_s = time.monotonic()
        self._max_resident_bytes = 0
        """Known from the first look on: most renderings end before it."""

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s > self._deadline_s:
            raise RenderLimitError(f"rendering takes more than {self._seconds:g} seconds")
        if now_s - self._looked_at_s > _LOOK_INTERVAL_S:
            self._looked_at_s = now_s
            bytes_now = resident_bytes()
            self._max_resident_bytes = self._max_resident_bytes or bytes_now + MAX_GROWTH_BYTES
            if bytes_now > self._max_resident_bytes:
                raise RenderLimitError(f"rendering takes more than {MAX_GROWTH_BYTES >> 20} MiB of memory")

    def add_output(self, piece: str) -> None:
        self._num_chars += len(piece)
        if self._num_chars > self._max_chars:
            raise RenderLimitError(f"the rendered prompt has more than {self._max_chars} characters")
        self()


def resident_bytes() -> int:
    """Memory of this process; 0 on systems that do not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks what a trainer's loss looks at; here only its body counts."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _LimitedCode(jinja2.compiler.CodeGenerator):
    """Has ~ ask before it joins."""

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame) -> None:
        self.write("environment.join(")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")")


class TemplateEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, the names that templates of Hugging Face models use, and the limits."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    code_generator_class = _LimitedCode

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols])
        self.filters["tojson"] = _tojson
        self.filters = {name: _guarded_filter(name, function) for name, function in self.filters.items()}
        self.finalize = _checked_output
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """An operation with a result that may be larger than what it is made of, unless it would be giant."""
        if operator == "+" and type(left) is type(right) is str and len(left) + len(right) <= growth.MAX_VALUE_LENGTH:
            return left + right  # what templates do most
        _limited(growth.check_operator, operator, left, right)
        tick(context)
        return super().call_binop(context, operator, left, right)

    def call(self, context: jinja2.runtime.Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _limited(growth.check_call, function, (*args, *kwargs.values()))
        return super().call(context, function, *args, **kwargs)

    def concat(self, pieces: Iterable[str]) -> str:
        """The text of a block that is kept: a macro's, that of {% set %} or {% filter %}."""
        whole = list(pieces)
        _limited(growth.check_join, whole, "a block's text")
        return "".join(whole)

    def join(self, *parts: Any) -> str:
        """What ~ does."""
        _limited(growth.check_join, parts, "~")
        return "".join(map(str, parts))

    @staticmethod
    def tick(context: jinja2.runtime.Context) -> None:
        tick(context)

    def _generate(
        self, source: jinja2.nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        for loop in list(source.find_all(jinja2.nodes.For)):
            loop.body.insert(0, _budget_call(loop.lineno))
        for macro in list(source.find_all(jinja2.nodes.Macro)):
            macro.body.insert(0, _budget_call(macro.lineno))
        return super()._generate(source, name, filename, defer_init)


def tick(context: jinja2.runtime.Context) -> None:
    """Ask the budget of the rendering. Raises `RenderLimitError`."""
    context.parent[BUDGET]()


def _budget_call(lineno: int) -> jinja2.nodes.Node:
    call = jinja2.nodes.Call(
        jinja2.nodes.EnvironmentAttribute("tick"), [jinja2.nodes.ContextReference()], [], None, None
    )
    return jinja2.nodes.ExprStmt(call).set_lineno(lineno)


def _limited(check: Callable[..., None], *args: Any) -> None:
    try:
        check(*args)
    except growth.TooLargeError as error:
        raise RenderLimitError(str(error)) from None


def _checked_output(value: Any) -> Any:
    """Before a value of {{ }} becomes text."""
    if not isinstance(value, str):
        _limited(growth.check_join, (value,), "the output of a value")
    return value


def _guarded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, asked first how much it would make. It wants the context, so it never runs at compile time."""
    wants = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @jinja2.pass_context
    @functools.wraps(function)
    def guarded(context: jinja2.runtime.Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        _limited(growth.check_filter, name, value, (*args, *kwargs.values()))
        tick(context)
        given = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        first = () if wants is None else (given[wants],)
        return function(*first, value, *args, **kwargs)

    return guarded


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
