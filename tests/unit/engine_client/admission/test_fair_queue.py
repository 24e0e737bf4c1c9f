from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvik.engine_client.admission.fair_queue import FairQueue, Waiting

QUANTUM = 10


def queue_of(*requests: tuple[str, int, int]) -> FairQueue[int]:
    """Owner, priority and cost of each."""
    queue: FairQueue[int] = FairQueue(QUANTUM)
    for i, (owner, priority, cost) in enumerate(requests):
        queue.push(Waiting(owner, priority, i, cost, i))
    return queue


def served(queue: FairQueue[int]) -> list[Waiting[int]]:
    order = []
    while (waiting := queue.peek()) is not None:
        assert queue.peek() is waiting
        queue.remove(waiting, is_served=True)
        order.append(waiting)
    return order


REQUESTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.integers(1, 80)), max_size=40)


@given(REQUESTS)
def test_all_are_served_once_and_each_owners_in_order_of_priority_and_arrival(
    requests: list[tuple[str, int, int]],
) -> None:
    queue = queue_of(*requests)
    order = served(queue)
    assert sorted(w.item for w in order) == list(range(len(requests)))
    for owner in "abc":
        keys = [w.key for w in order if w.owner == owner]
        assert keys == sorted(keys)
    assert len(queue) == queue.cost == 0


@given(
    st.lists(st.integers(1, 80), min_size=1, max_size=40),
    st.lists(st.integers(1, 80), min_size=1, max_size=40),
)
def test_two_busy_owners_get_equal_shares(costs_a: list[int], costs_b: list[int]) -> None:
    queue = queue_of(*[("a", 0, c) for c in costs_a], *[("b", 0, c) for c in costs_b])
    left = {"a": len(costs_a), "b": len(costs_b)}
    spent: Counter[str] = Counter()
    for waiting in served(queue):
        spent[waiting.owner] += waiting.cost
        left[waiting.owner] -= 1
        if not all(left.values()):
            break
        assert abs(spent["a"] - spent["b"]) <= QUANTUM + max(costs_a + costs_b)


def test_who_has_many_waiting_does_not_hold_up_who_has_one() -> None:
    queue = queue_of(*[("many", 0, 10)] * 200, ("one", 0, 10))
    assert [w.owner for w in served(queue)].index("one") == 1


def test_owners_who_may_not_be_served_are_passed_over() -> None:
    queue = queue_of(("a", 0, 500), ("b", 0, 900))
    chosen = queue.peek(lambda owner: owner == "b")
    assert chosen is not None
    assert chosen.owner == "b"
    assert queue.peek(lambda owner: False) is None


def test_what_leaves_unserved_costs_its_owner_nothing() -> None:
    queue = queue_of(("a", 0, 10), ("a", 0, 10), ("b", 0, 10))
    first = queue.peek()
    assert first is not None
    queue.remove(first, is_served=False)
    assert [w.owner for w in served(queue)] == ["a", "b"]


def test_the_place_of_a_newcomer() -> None:
    queue = queue_of(("a", 0, 5), ("a", 0, 5), ("a", 7, 50), ("b", 0, 30), ("b", 0, 30))
    assert queue.ahead_of("a", 0, 10) == (2 + 2, 10 + 20)
    assert queue.ahead_of("a", 7, 10) == (3 + 2, 60 + 60)
    assert queue.ahead_of("new", 0, 10) == (1 + 1, 10 + 10)
