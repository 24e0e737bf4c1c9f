from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from kvik.engine_client.readmission import MOST_CRASHES, Readmission
from kvik.messages import FinishReason, NewRequest, StepOutputs, TokenDelta
from kvik.sampling_params import SamplingParams
from kvik.wire.pulse import PulseReading, Stage


def request(name: str) -> NewRequest:
    return NewRequest(name, [1], SamplingParams(), 0.0)


def computing(*names: str) -> PulseReading:
    return PulseReading(1, 1, Stage.COMPUTING, names)


def step(*names: str) -> StepOutputs:
    return StepOutputs([TokenDelta(name, [7]) for name in names], 1.0)


@dataclass
class Desk:
    """A readmission and what it has sent to the present engine."""

    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = Readmission(lambda request: self.sent.append(request.request_id))

    def crash(self, reading: PulseReading, open_names: list[str]) -> list[str]:
        """The engine dies and another one is there; who is not sent to it."""
        guilty = self.desk.engine_died(reading, open_names)
        self.sent.clear()
        self.desk.readmit([request(name) for name in open_names if name not in guilty])
        return guilty


def test_requests_are_sent_at_once_without_a_crash() -> None:
    desk = Desk()
    desk.desk.submit(request("a"))
    desk.desk.submit(request("b"))
    assert desk.sent == ["a", "b"]


def test_suspects_come_first_and_one_at_a_time() -> None:
    desk = Desk()
    assert desk.crash(computing("b", "c"), ["a", "b", "c"]) == []
    assert desk.sent == ["b"]
    desk.desk.submit(request("d"))
    desk.desk.observe(StepOutputs([TokenDelta("b", [])], 1.0))  # prompt tokens only
    assert desk.sent == ["b"]
    desk.desk.observe(step("b"))
    assert desk.sent == ["b", "c"]
    desk.desk.observe(step("b", "c"))
    assert desk.sent == ["b", "c", "a", "d"]
    assert desk.desk.num_suspects == 0


def test_the_one_on_trial_is_ended_and_those_beside_it_are_not() -> None:
    desk = Desk()
    desk.crash(computing("good", "bad"), ["good", "bad", "waiting"])
    desk.desk.observe(step("good"))
    assert desk.sent == ["good", "bad"]
    assert desk.crash(computing("good", "bad"), ["good", "bad", "waiting"]) == ["bad"]
    assert desk.sent == ["good", "waiting"]


def test_the_end_of_the_one_on_trial_lets_the_next_one_come() -> None:
    desk = Desk()
    desk.crash(computing("a", "b"), ["a", "b"])
    desk.desk.observe(StepOutputs([TokenDelta("a", [], finish_reason=FinishReason.ABORT)], 1.0))
    assert desk.sent == ["a", "b"]


def test_who_has_left_is_not_sent() -> None:
    desk = Desk()
    desk.crash(computing("a", "b"), ["a", "b", "c"])
    desk.desk.withdraw(["b"])
    desk.desk.observe(step("a"))
    assert desk.sent == ["a", "c"]


def test_a_failed_plan_makes_suspects_of_all_that_were_sent() -> None:
    desk = Desk()
    planning = PulseReading(1, 1, Stage.PLANNING, None)
    assert desk.crash(planning, ["a", "b"]) == []
    assert desk.sent == ["a"]
    assert desk.crash(planning, ["a", "b"]) == ["a"]
    assert desk.sent == ["b"]


def test_between_steps_nobody_is_suspected() -> None:
    desk = Desk()
    idle = PulseReading(1, 1, Stage.BETWEEN_STEPS, None)
    for _ in range(5):
        assert desk.crash(idle, ["a", "b"]) == []
        assert desk.sent == ["a", "b"]


def test_who_was_there_too_often_is_ended_though_cleared_each_time() -> None:
    desk = Desk()
    for _ in range(MOST_CRASHES - 1):
        assert desk.crash(computing("a"), ["a"]) == []
        desk.desk.observe(step("a"))
    assert desk.crash(computing("a"), ["a"]) == ["a"]


def test_nothing_is_sent_between_a_death_and_the_next_engine() -> None:
    desk = Desk()
    desk.desk.engine_died(computing("a"), ["a"])
    desk.desk.submit(request("b"))
    assert desk.sent == []
    desk.desk.readmit([request("a"), request("b")])
    assert desk.sent == ["a"]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_poison_is_found_at_its_second_engine_and_nobody_else_pays(is_poison: list[bool], data: st.DataObject) -> None:
    """Engines that die whenever a poisonous request is in a step: each costs two, innocents none of theirs."""
    names = [f"{'bad' if bad else 'good'}{i}" for i, bad in enumerate(is_poison)]
    open_names, desk = list(names), Desk()
    desk.desk.readmit([request(name) for name in names])
    for _ in range(2 * len(names) + 1):
        running = [name for name in desk.sent if name in open_names]
        if not any(name.startswith("bad") for name in running):
            if not desk.desk.num_suspects:
                break
            desk.desk.observe(step(*running))
            continue
        guilty = desk.crash(computing(*running), open_names)
        assert all(name.startswith("bad") for name in guilty)
        open_names = [name for name in open_names if name not in guilty]
        # A crowd in which several are poisonous dies once for the crowd, then once for each of them.
    assert [name for name in names if name.startswith("good")] == sorted(open_names, key=names.index)
