from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.engine_client.admission.ticket import WaitReason
from kvik.engine_client.admission.window import EngineWindow


def test_slots_run_out() -> None:
    window = EngineWindow(2, 100)
    window.enter("a", ["1"], 10)
    assert window.obstacle(1, 10) is None
    assert window.obstacle(2, 10) == WaitReason.SLOTS
    window.leave("1")
    assert window.obstacle(2, 10) is None


def test_prompts_that_are_not_computed_fill_the_window() -> None:
    window = EngineWindow(8, 100)
    window.enter("a", ["1", "2"], 60)
    assert window.obstacle(1, 60) == WaitReason.BUDGET
    assert window.computed("1") == 60
    assert window.computed("1") == 0
    assert window.obstacle(1, 60) is None
    window.restart()
    assert window.obstacle(1, 60) == WaitReason.BUDGET


def test_what_is_larger_than_the_window_gets_in_alone() -> None:
    window = EngineWindow(2, 100)
    assert window.obstacle(5, 1000) is None


def test_no_blocks() -> None:
    window = EngineWindow(8, 100)
    window.lacks_blocks = True
    assert window.obstacle(1, 1) is None, "an empty engine lacks nothing"
    window.enter("a", ["1"], 10)
    assert window.obstacle(1, 1) == WaitReason.BLOCKS


def test_one_of_several_owners_leaves_slots_for_others() -> None:
    window = EngineWindow(16, 1000)
    for i in range(14):
        window.enter("a", [str(i)], 1)
    assert window.own_obstacle("a", 1) is None
    assert window.own_obstacle("a", 2) is WaitReason.SLOTS
    assert window.own_obstacle("b", 2) is None


@given(st.lists(st.tuples(st.sampled_from(["enter", "computed", "leave"]), st.integers(1, 4), st.integers(1, 60))))
def test_counts_are_those_of_what_is_inside(moves: list[tuple[str, int, int]]) -> None:
    window = EngineWindow(6, 100)
    inside: dict[str, int] = {}
    for i, (move, num, tokens) in enumerate(moves):
        if move == "enter" and window.obstacle(num, tokens) is None:
            names = [f"{i}-{k}" for k in range(num)]
            window.enter("a", names, tokens)
            inside |= dict.fromkeys(names, 0) | {names[0]: tokens}
        elif inside and move == "computed":
            name = sorted(inside)[num % len(inside)]
            window.computed(name)
            inside[name] = 0
        elif inside and move == "leave":
            name = sorted(inside)[num % len(inside)]
            window.leave(name)
            del inside[name]
        assert window.num_sequences == len(inside) <= 6
        assert window.num_prompt_tokens == sum(inside.values()) <= 100
    for name in inside:
        window.leave(name)
    assert window.num_sequences == window.num_prompt_tokens == 0


def test_one_of_several_owners_has_few_prompts_before_others() -> None:
    window = EngineWindow(16, 1000)
    window.enter("a", ["1"], 100)
    assert window.own_obstacle("a", 2) is None
    window.enter("a", ["2"], 28)
    assert window.own_obstacle("a", 2) is WaitReason.BUDGET
    assert window.own_obstacle("a", 1) is window.own_obstacle("b", 2) is None
    window.enter("b", ["3"], 500)
    assert window.own_obstacle("b", 2) is WaitReason.BUDGET
    assert window.own_obstacle("a", 2) is None, "less than another has"
    window.leave("3")
    window.computed("1")
    assert window.own_obstacle("a", 2) is None
    window.restart()
    assert window.own_obstacle("a", 2) is WaitReason.BUDGET
    window.leave("2")
    assert window.own_obstacle("a", 2) is None
