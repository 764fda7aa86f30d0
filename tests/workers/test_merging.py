"""Both logs as one sequence: the same however their rows become visible, and wherever the reader begins anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, islice
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from projections.merging import Placed, Queue, merged

TIMES = st.lists(st.integers(1, 12), max_size=12)
"""When the rows of a log occurred, in the order of the log: many at one time, some earlier than the one before."""


@dataclass
class Log:
    """A log of which rows become visible one after the other, and how far it was read and given out."""

    times: list[int]
    queue: Queue[int] = field(default_factory=lambda: Queue(0, 0.0))
    visible: int = 0
    passed: int = 0
    passed_at: float = 0.0

    def read(self, most: int, slack: int) -> None:
        """Read up to so many rows; at the end, say that nothing earlier comes than what is not visible yet."""
        new = self.times[self.queue.read : min(self.visible, self.queue.read + most)]
        for at in new:
            self.queue.add(self.queue.read + 1, float(at), self.queue.read)
        if len(new) < most:
            self.queue.complete_until = min((*self.times[self.visible :], inf)) - slack

    def begin_anew(self) -> None:
        self.queue = Queue(self.passed, self.passed_at)


def whole(events: list[int], uses: list[int]) -> list[tuple[bool, Placed[int]]]:
    """Merge complete logs: by the latest time so far, events first, each log in its order."""
    rows = [
        (is_event, Placed(float(at), position, position - 1))
        for is_event, times in ((True, events), (False, uses))
        for position, at in enumerate(accumulate(times, max), 1)
    ]
    return sorted(rows, key=lambda row: (row[1].at, not row[0], row[1].position))


@given(TIMES, TIMES, st.data())
def test_it_is_the_same_however_rows_become_visible(events: list[int], uses: list[int], data: st.DataObject) -> None:
    logs = {True: Log(events), False: Log(uses)}
    found: list[tuple[bool, Placed[int]]] = []

    def take(most: int | None) -> None:
        for is_event, placed in islice(merged(logs[True].queue, logs[False].queue), most):
            logs[is_event].passed, logs[is_event].passed_at = placed.position, placed.at
            found.append((is_event, placed))

    for _ in range(data.draw(st.integers(0, 8), "steps")):
        for log in logs.values():
            log.visible = data.draw(st.integers(log.visible, len(log.times)), "visible")
            log.read(data.draw(st.integers(1, 5), "most"), data.draw(st.integers(0, 20), "settling"))
            if data.draw(st.booleans(), "begins anew"):
                for one in logs.values():
                    one.begin_anew()
        take(data.draw(st.none() | st.integers(1, 3), "given out"))
    assert found == whole(events, uses)[: len(found)], "nothing is given out too early"
    for log in logs.values():
        log.visible = len(log.times)
        log.read(100, 0)
    take(None)
    assert found == whole(events, uses), "in the end nothing is missing"


def queue(*times: float, complete_until: float = 0.0) -> Queue[str]:
    made: Queue[str] = Queue(0, 0.0, complete_until)
    for position, at in enumerate(times, 1):
        made.add(position, at, f"at {at}")
    return made


def test_of_one_time_the_event_is_first_and_no_log_goes_back_in_time() -> None:
    found = merged(queue(3, 1, 5, complete_until=inf), queue(3, 4, complete_until=inf))
    assert [(is_event, placed.at, placed.row) for is_event, placed in found] == [
        (True, 3, "at 3"),
        (True, 3, "at 1"),
        (False, 3, "at 3"),
        (False, 4, "at 4"),
        (True, 5, "at 5"),
    ]


def test_what_the_other_log_may_still_be_before_waits() -> None:
    uses = queue(3, 4)
    assert not list(merged(queue(), uses))
    assert len(list(merged(queue(complete_until=4), uses))) == 1
    assert not list(merged(queue(complete_until=4), uses)), "an event of the same time would be first"

    events = queue(3, 4)
    assert not list(merged(events, queue(complete_until=3)))
    late = queue()
    late.latest = 3
    assert len(list(merged(events, late))) == 1, "what comes in the other log is at 3 or later, and after the event"


def test_times_that_are_still_to_come_are_not_trusted() -> None:
    log = queue(3, 90)
    log.trust(10)
    log.add(3, 4.0, "late")
    log.add(4, 80.0, "of a wrong clock")
    log.trust(20)
    log.add(5, 15.0, "right again")
    found = merged(queue(complete_until=inf), log)
    assert [placed.at for _, placed in found] == [3, 10, 10, 10, 15]
