from __future__ import annotations

import json
from datetime import datetime

import jinja2
import pytest

from kvik.text.sandbox import BUDGET, RenderBudget, RenderLimitError, compile_template


def render(source: str, seconds: float = 10.0, max_chars: int = 1000, **variables: object) -> str:
    budget = RenderBudget(seconds, max_chars)
    pieces = []
    for piece in compile_template(source).generate(**variables, **{BUDGET: budget}):
        budget.add_output(piece)
        pieces.append(piece)
    return "".join(pieces)


def test_blocks_are_trimmed() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_what_templates_expect_is_there() -> None:
    assert render("{{ x | tojson }}", x={"é<": [1, None]}) == json.dumps({"é<": [1, None]}, ensure_ascii=False)
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"
    assert render("{{ strftime_now('%Y') }}") in {str(datetime.now().year), str(datetime.now().year - 1)}
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert render("{% generation %}x{% endgeneration %}") == "x"
    assert render("{% set n = namespace(x=1) %}{% for i in [1] %}{% set n.x = 5 %}{% endfor %}{{ n.x }}") == "5"
    with pytest.raises(jinja2.TemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ x.append(1) }}",
        "{{ (x | attr('append'))(1) }}",
        "{% set f = raise_exception.__globals__ %}{{ f.os }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        render(source, x=[])


def test_an_endless_loop_ends_in_time() -> None:
    loop = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(RenderLimitError, match=r"more than 0\.01 seconds"):
        render(loop, seconds=0.01)


def test_an_endless_recursion_ends_in_time() -> None:
    tree = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    with pytest.raises(RenderLimitError, match=r"more than 0\.01 seconds"):
        render(tree, seconds=0.01)


def test_output_is_limited() -> None:
    with pytest.raises(RenderLimitError, match="more than 1000 characters"):
        render("{% for i in range(99999) %}{{ 'xxxxxxxxxx' }}{% endfor %}")


@pytest.mark.parametrize("source", ["{{ 'x' * 10 ** 9 }}", "{{ (10 ** 9) * [1] }}", "{{ 10 ** (10 ** 9) }}"])
def test_giant_values_are_refused(source: str) -> None:
    with pytest.raises(RenderLimitError, match="would make"):
        render(source)


def test_ordinary_arithmetic_works() -> None:
    assert render("{{ 'ab' * 3 }}{{ 2 ** 10 }}{{ 2 * 3 }}{{ 'x' * -1 }}") == "ababab10246"


def test_special_loops_keep_their_meaning() -> None:
    source = (
        "{% for i in x if i > 1 %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}-{% endfor %}"
    )
    assert render(source, x=[1, 2, 3]) == "1/2,2/2"
    assert render(source, x=[]) == "-"
    recursive = "{% for n in x recursive %}{{ n.a }}{{ loop(n.b) if n.b }}{% endfor %}"
    assert render(recursive, x=[{"a": 1, "b": [{"a": 2}]}]) == "12"
