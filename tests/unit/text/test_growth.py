"""No operation of a template makes a giant value; ordinary ones pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.text import sandbox
from kvik.text.growth import MAX_VALUE_LENGTH, size_of
from kvik.text.sandbox import BUDGET, RenderBudget, RenderLimitError, compile_template


def render(source: str, seconds: float = 20.0, **variables: object) -> str:
    budget = RenderBudget(seconds, 1 << 25)
    pieces = []
    for piece in compile_template(source).generate({**variables, BUDGET: budget}):
        budget.add_output(piece)
        pieces.append(piece)
    return "".join(pieces)


def doubling(step: str) -> str:
    return "{% set n = namespace(x='0123456789') %}{% for i in range(60) %}" + step + "{% endfor %}{{ n.x | length }}"


@pytest.mark.parametrize(
    "step",
    [
        "{% set n.x = n.x ~ n.x %}",
        "{% set n.x = n.x + n.x %}",
        "{% set n.x = n.x * 2 %}",
        "{% set n.x = [n.x, n.x] | join %}",
        "{% set n.x = n.x | replace('0', '00') | replace('1', '11') %}",
        "{% set n.x = n.x.replace('', n.x) %}",
        "{% set n.x = n.x.join([n.x, n.x, n.x]) %}",
        "{% set n.x = '%s%s' % (n.x, n.x) %}",
        "{% set n.x = '{0}{0}'.format(n.x) %}",
        "{% set n.x = '%s%s' | format(n.x, n.x) %}",
        "{% set n.x = (n.x, n.x) | string %}",
        "{% set n.x = [n.x, n.x] | tojson %}",
        "{% set n.x = {'a': n.x, 'b': n.x} | pprint %}",
        "{% set n.x = n.x | indent(n.x | length, true) %}",
        "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}",
        "{% set n.x = [n.x] + [n.x] %}{% set n.x = n.x | map('string') | join %}",
        "{% macro m() %}{{ n.x }}{{ n.x }}{% endmacro %}{% set n.x = m() %}",
        "{% set y %}{% filter upper %}{{ n.x }}{{ n.x }}{% endfilter %}{% endset %}{% set n.x = y %}",
    ],
)
def test_nothing_doubles_for_long(step: str) -> None:
    with pytest.raises(RenderLimitError):
        render(doubling(step))


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' | center(big) }}", "{{ 'x'.ljust(big) }}", "{{ 'x'.zfill(big) }}",
        "{{ '%10000000000d' % 1 }}", "{{ '%*d' % (big, 1) }}", "{{ '%-10000000000d' | format(1) }}",
        "{{ '{:>10000000000}'.format(1) }}", "{{ '{:>{}}'.format(1, big) }}", "{{ (1).to_bytes(big, 'big') }}",
        "{{ '\t'.expandtabs(big) }}", "{{ [1] | batch(big, 0) | list }}", "{{ 1.5 | round(big, 'ceil') }}",
        "{{ [1] | tojson(indent=big) }}", "{{ 'x' | indent(big, true) }}", "{{ [[1]] | sum(start=[]) }}",
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x=2) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
)  # fmt: skip
def test_giant_values_are_refused(source: str) -> None:
    with pytest.raises(RenderLimitError):
        render(source, big=10**10)


def test_a_rendering_that_keeps_large_values_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_GROWTH_BYTES", 64 << 20)
    with pytest.raises(RenderLimitError, match="64 MiB of memory"):
        render(
            "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x, 'x' * 2 ** 20] %}{% endfor %}"
        )


@pytest.mark.parametrize("name", ["_render_budget", "budget", "context", "environment"])
def test_no_template_replaces_its_budget(name: str) -> None:
    loop = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(RenderLimitError, match="seconds"):
        render("{% set " + name + " = cycler(1).next %}" + loop, seconds=0.01)


def test_what_templates_do_every_day() -> None:
    source = (
        "{% for m in messages %}{{ m.role ~ ': ' + m.content | trim | replace('a', 'b') }}{{ '\n' * 2 }}"
        "{{ '%s' % m.role }}{{ '{}'.format(m.role) }}{{ [m.role, 'x'] | join(',') }}{{ m | tojson(indent=4) | length }}"
        "{{ m.content.split('a')[-1].rstrip('c') }}{{ u | default(99999999) }}"
        "{{ '7' | int + 1 }}{{ 1.234 | round(1) }}"
        "{{ 7 % 4 }}{% endfor %}"
    )
    assert render(source, messages=[{"role": "u", "content": " abc"}]) == "u: bbc\n\nuuu,x42b9999999981.23"
    assert render("{{ messages | map(attribute='role') | join(', ') }}", messages=[{"role": "u"}] * 2) == "u, u"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_sizes_are_no_less_than_what_a_value_holds(value: object) -> None:
    assert size_of(value) >= (len(value) if isinstance(value, (str, list, dict)) else 1)


def test_sizes_are_counted_as_text_would_repeat_them() -> None:
    shared: list[object] = ["x" * 100]
    for _ in range(50):
        shared = [shared, shared]
    assert size_of(shared) > MAX_VALUE_LENGTH
