"""A small world around `nullworker.demand`: one queue, a few jobs and reservations, and all orders of what happens.

The states are immutable values with ages for times, so that two that go on alike are equal. `Demand` is the
dispatcher's own. Which demand dead jobs are is for `Jobs.most_wanted` and `Jobs.least_wanted` to say.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nullworker.demand.depth import Depth
from nullworker.demand.limits import Limits
from nullworker.demand.plan import TAKE_S, Reading, covers
from nullworker.demand.reservations import LIVE, Phase, ReservationState
from nullworker.demand.round import Demand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW_S = 1_000.0
#: Ages beyond this are alike: every limit of `LIMITS` is shorter.
AGE_MAX_S = 9
#: After the last fault, so long until reservations are as many as jobs that can be served; and until all are done.
WINDOW_S = 9
REST_S = 40
#: Of so many states, one is followed to its rest.
SETTLES = 4
NEVER = -1


class Scope(NamedTuple):
    """What is walked through."""

    name: str
    sometimes: frozenset[str]
    jobs: int = 2
    faults: int = 2
    most: int = 2
    tells_in_flight: bool = True
    lag_s: float = 2.0

    @property
    def limits(self) -> Limits:
        """The dispatcher's, with short times."""
        return Limits(self.most, lag_s=self.lag_s, stale_after_s=2.0, claim_s=0.6)


_ALWAYS = {"opened", "stale", "adopted", "died", "lost", "served"}
SCOPES = {
    scope.name: scope
    for scope in (
        Scope("late", frozenset(_ALWAYS | {"withdrawn", "a late reading", "covered"})),
        Scope("capped", frozenset(_ALWAYS | {"at most"}), jobs=3, faults=1, most=1, lag_s=0.0),
        Scope("unknown", frozenset(_ALWAYS), tells_in_flight=False, lag_s=0.0),
    )
}


class Held(NamedTuple):
    """A reservation: what the dispatcher knows of it, and whether its consumer has a job."""

    phase: str
    asked_s: int = 0
    held_s: int = NEVER  # ages
    closed_s: int = NEVER
    seen: tuple[int, bool, bool, bool] = (0, False, False, False)  # what the dispatcher saw: as in `ReservationState`
    busy: bool = False  # in truth
    soon: bool = False  # it took its job soon after it was held


class Jobs(NamedTuple):
    """The queue as it truly is."""

    waiting: int = 0
    running: int = 0
    dead: int = 0  # in flight, and their consumers are dead
    done: int = 0  # done since by a reservation that covers; for a reading of this moment that is read later

    @property
    def most_wanted(self) -> int:
        """More reservations than this are too many."""
        return self.waiting + self.running + self.dead

    @property
    def least_wanted(self) -> int:
        """Fewer leave a job waiting that could be served."""
        return self.waiting + self.running


class State(NamedTuple):
    """All of a small world."""

    jobs: Jobs
    held: tuple[Held, ...]
    to_come: int
    faults: int
    before: Jobs | None = None  # the queue at the last tick
    read_s: int = NEVER  # age of the last reading
    read: tuple[int, int | None] = (0, None)
    empty_s: int = NEVER
    futile: int = 0
    jobs_ended: int = 0


class Broken(AssertionError):  # noqa: N818 - it reads as what it is
    """A promise of the dispatcher is broken."""


# ------------------------------------------------------------------------------------------------------ the dispatcher


def _moment(age_s: int) -> float | None:
    return None if age_s == NEVER else NOW_S - age_s


def _age(moment_s: float | None) -> int:
    return NEVER if moment_s is None else min(AGE_MAX_S, round(NOW_S - moment_s))


def _known(held: Held) -> ReservationState:
    asked_at_s = NOW_S - held.asked_s
    jobs, done, moved, adopted = held.seen
    times = asked_at_s, _moment(held.held_s), _moment(held.closed_s)
    return ReservationState(Phase(held.phase), *times, jobs, NOW_S if done else None, moved, adopted)


def _seen(known: ReservationState) -> tuple[int, bool, bool, bool]:
    return known.jobs, known.done_at_s is not None, known.moved, known.is_adopted


def _demand(scope: Scope, state: State) -> Demand:
    demand = Demand(scope.limits)
    evidence = demand.evidence
    evidence.futile, evidence._empty_since_s = state.futile, _moment(state.empty_s)
    evidence._jobs_ended = state.jobs_ended
    if state.read_s != NEVER:
        evidence._last = Reading(Depth(*state.read, 0.0), NOW_S - state.read_s)
    return demand


def _considered(world: World, state: State, reading: Reading) -> State:
    """One round of the dispatcher."""
    limits, demand = world.scope.limits, _demand(world.scope, state)
    evidence = demand.evidence
    pairs = [(held, _known(held)) for held in state.held]
    pairs = [(held, known) for held, known in pairs if known.phase in LIVE or covers(known, reading, limits.lag_s)]
    known = [known for _, known in pairs]
    if len(pairs) > sum(each.phase in LIVE for each in known):
        world.seen.add("covered")
    decided = demand.consider(reading, known, NOW_S).plan
    held = [held._replace(seen=_seen(known)) for held, known in pairs]
    asked = [each for each in held if each.phase == "asked"]
    for each in sorted(asked, key=lambda each: each.asked_s)[: decided.withdraw]:
        held.remove(each)
        world.seen.add("withdrawn")
    opened = decided.open if evidence.pause_s == 0 else min(1, decided.open)
    held += [Held("asked")] * opened
    if opened:
        world.seen.add("opened")
    live = sum(each.phase != "closed" for each in held)
    if live > limits.most:
        raise Broken(f"{live} reservations, and at most {limits.most} are allowed")
    if live == limits.most < state.jobs.least_wanted:
        world.seen.add("at most")
    depth = reading.depth
    return state._replace(
        held=tuple(held),
        read_s=_age(reading.at_s),
        read=(depth.waiting, depth.in_flight),
        empty_s=_age(evidence._empty_since_s),
        futile=evidence.futile,
        jobs_ended=0,
    )


def _read(world: World, state: State, jobs: Jobs) -> State:
    in_flight = jobs.running + jobs.dead if world.scope.tells_in_flight else None
    after = _considered(world, state, Reading(Depth(jobs.waiting, in_flight, 0.0), NOW_S))
    live, before = _live(after), _live(state)
    if world.scope.tells_in_flight and live > max(before, jobs.most_wanted - jobs.done):
        raise Broken(f"{live} reservations after a reading of {jobs}, and {before} before")
    return after


# --------------------------------------------------------------------------------------------------------- what happens


def _live(state: State) -> int:
    return sum(held.phase != "closed" for held in state.held)


def _with(state: State, number: int, held: Held, jobs: Jobs | None = None) -> State:
    return state._replace(held=(*state.held[:number], held, *state.held[number + 1 :]), jobs=jobs or state.jobs)


def _closed(state: State, number: int, jobs: Jobs) -> State:
    held, evidence = state.held[number], _demand(SCOPES["late"], state).evidence
    closed = held._replace(phase="closed", closed_s=0, busy=False)
    evidence.closed(_known(closed))
    return _with(state, number, closed, jobs)._replace(futile=evidence.futile, jobs_ended=evidence._jobs_ended)


def _tick(state: State) -> State:
    def older(age_s: int) -> int:
        return age_s if age_s == NEVER else min(AGE_MAX_S, age_s + 1)

    held = [
        each._replace(asked_s=older(each.asked_s), held_s=older(each.held_s), closed_s=older(each.closed_s))
        for each in state.held
    ]
    return state._replace(
        held=tuple(held), read_s=older(state.read_s), empty_s=older(state.empty_s), before=state.jobs._replace(done=0)
    )


def _done(state: State, number: int) -> State:
    jobs, held = state.jobs, state.held[number]
    before = state.before
    is_covered = held.soon or not _known(held).was_seen
    if is_covered and before is not None and before.most_wanted > before.done:
        before = before._replace(done=before.done + 1)
    return _closed(state, number, jobs._replace(running=jobs.running - 1))._replace(before=before)


def _killed(state: State) -> State:
    """Another dispatcher starts: requests that waited are gone, and what was read and closed is forgotten."""
    adopted = (0, False, False, True)
    held = tuple([each._replace(seen=adopted) for each in state.held if each.phase in ("creating", "held")])
    return State(state.jobs, held, state.to_come, state.faults - 1)


def _successors(world: World, state: State) -> Iterator[tuple[str, Callable[[], State]]]:
    jobs = state.jobs
    if state.to_come:
        yield (
            "arrive",
            lambda: state._replace(to_come=state.to_come - 1, jobs=jobs._replace(waiting=jobs.waiting + 1)),
        )
    yield "read", lambda: _read(world, state, jobs)
    yield "tick", lambda: _tick(state)
    if jobs.dead:
        yield "redeliver", lambda: state._replace(jobs=jobs._replace(dead=jobs.dead - 1, waiting=jobs.waiting + 1))
    for number, held in enumerate(state.held):
        for name, happen in _of_reservation(state, number, held):
            yield f"{name} {number}", happen
    if not state.faults:
        return
    fewer = state._replace(faults=state.faults - 1)
    yield "kill", lambda: _killed(state)
    if state.before is not None and world.scope.lag_s >= 1:
        before = state.before
        yield "read_late", lambda: _read(world, fewer, before)
    for number, held in enumerate(state.held):
        if held.phase == "held" and held.busy:
            dead = jobs._replace(running=jobs.running - 1, dead=jobs.dead + 1)
            yield f"die {number}", partial(_closed, fewer, number, dead)
        elif held.phase != "closed":
            yield f"lose {number}", partial(_closed, fewer, number, jobs)
        if held.phase == "creating":
            asked = held._replace(phase="asked")
            yield f"refuse {number}", partial(_with, fewer, number, asked)


def _of_reservation(state: State, number: int, held: Held) -> Iterator[tuple[str, Callable[[], State]]]:
    jobs = state.jobs
    if held.phase == "asked":
        yield "grant", lambda: _with(state, number, held._replace(phase="creating"))
    elif held.phase == "creating":
        yield "confirm", lambda: _with(state, number, held._replace(phase="held", held_s=0))
    elif held.busy:
        yield "done", lambda: _done(state, number)
    elif held.phase == "held" and jobs.waiting:
        taken = held._replace(busy=True, soon=held.held_s <= TAKE_S)
        now = jobs._replace(waiting=jobs.waiting - 1, running=jobs.running + 1)
        yield "take", lambda: _with(state, number, taken, now)
    elif held.phase == "held":
        yield "give_up", lambda: _closed(state, number, jobs)


_SEEN = {"read_late": "a late reading", "kill": "adopted", "die": "died", "lose": "lost"}


# -------------------------------------------------------------------------------------------------------------- at rest


def _settle(world: World, state: State) -> None:
    """The faults are over: as many reservations as jobs in a while; then all jobs end, and nothing is left."""
    state = state._replace(faults=0, to_come=0)
    for second in range(REST_S):
        state = _all_act(world, state, ends=second > WINDOW_S)
        jobs, live = state.jobs, _live(state)
        if second == WINDOW_S:
            most = world.scope.most
            if not min(most, jobs.least_wanted) <= live <= min(most, jobs.most_wanted):
                raise Broken(f"{WINDOW_S} s after the last fault there are {live} reservations for {jobs}")
        state = _tick(state)
    if jobs.most_wanted or live:
        raise Broken(f"{REST_S} s after the last fault there are {live} reservations and {jobs}")
    world.seen.add("served")


def _all_act(world: World, state: State, *, ends: bool) -> State:
    """All do what they have to do: consumers take jobs or give up, the dispatcher reads, and the broker redelivers."""
    if ends and state.jobs.dead:
        state = state._replace(jobs=state.jobs._replace(dead=0, waiting=state.jobs.waiting + state.jobs.dead))
    state = _read(world, state, state.jobs)
    for number in range(len(state.held)):
        for _ in range(4):
            step = next(_of_reservation(state, number, state.held[number]), None)
            if step is None or (step[0] == "done" and not ends):
                break
            state = step[1]()
    return state


# ----------------------------------------------------------------------------------------------------------- the search


class World:
    """One walk: breadth first through all states of a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.seen: set[str] = set()
        self.states = self.transitions = 0

    def walk(self, states_max: int) -> None:
        """Walks until there is nothing more, or through so many states.

        Raises:
            Broken: a promise is; its message has the moves that lead to it.
        """
        first = State(Jobs(), (), self.scope.jobs, self.scope.faults)
        came: dict[State, tuple[State, str] | None] = {first: None}
        waiting = deque([first])
        while waiting and len(came) < states_max:
            state = waiting.popleft()
            name = ""
            try:
                if len(waiting) % SETTLES == 0:
                    _settle(self, state)
                for name, happen in _successors(self, state):
                    self.transitions += 1
                    self._see(state, name)
                    following = happen()
                    following = following._replace(held=tuple(sorted(following.held)))
                    if following not in came:
                        came[following] = (state, name)
                        waiting.append(following)
            except Broken as broken:
                raise Broken(f"{broken} (after {' . '.join([*_path(came, state), name])})") from None
        self.states = len(came)

    def _see(self, state: State, name: str) -> None:
        kind = name.partition(" ")[0]
        if kind in _SEEN:
            self.seen.add(_SEEN[kind])
        if kind == "read" and state.read_s > self.scope.limits.stale_after_s:
            self.seen.add("stale")


def _path(came: dict[State, Any], state: State) -> list[str]:
    path = []
    while came[state] is not None:
        state, name = came[state]
        path.append(name)
    return path[::-1]
