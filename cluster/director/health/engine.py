"""All checks of one director in one asyncio loop: for each backend a course of checks, one by one."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cluster.director.health import Pace, Tried, Watched
from cluster.director.health.agenda import Agenda
from cluster.director.health.connecting import Connector
from cluster.director.health.probe import CONNECTING, ask_agent, attempt, failed, probe, talk
from cluster.director.health.sockets import Goal, NotTried, goal_of
from cluster.director.health.streams import close_at_once
from cluster.ipvs.traffic.checks import Check, CheckKind, Verdict
from cluster.ipvs.traffic.policy import LoadRule, Place
from cluster.ipvs.traffic.verdicts import Judge

log = logging.getLogger(__name__)

# Of a pause, by which it is shorter at most: enough that thousands of checks do not fall into step.
_JITTER = 0.1
# A check that begins later than this share of its interval after it was due is late.
LATE_SHARE = 0.1

# A script takes a pipe, and what starts it a few more for a moment.
_FILES_A_CHECK = 2
_OTHER_FILES = 32
# Of the checks that there are files for, so many are kept for tries and agents.
_OTHERS_SHARE = 0.25

SayVerdict = Callable[[Place, Verdict], None]
SayLoad = Callable[[Place, int], None]


class Engine:
    """`say_verdict` and `say_load` are called in the loop's thread, for each change."""

    def __init__(self, *, scripts: Path, say_verdict: SayVerdict, say_load: SayLoad) -> None:
        self.scripts = scripts
        self.agenda = Agenda()
        self.connector = Connector(self.agenda)
        self.say_verdict = say_verdict
        self._say_load = say_load
        self._courses: dict[Place, _Course] = {}
        most = _most_at_once()
        self._others = asyncio.Semaphore(int(most * _OTHERS_SHARE))
        self._most_checks = most - int(most * _OTHERS_SHARE)
        self._under_way = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._checks = self._late = 0
        self._measured = time.monotonic(), time.process_time()

    def watch(self, backends: Sequence[Watched], known: Mapping[Place, Verdict]) -> None:
        """As Checker.watch; what is known of those that stay is said again."""
        before, self._courses = self._courses, {}
        for one in backends:
            kept = before.pop(one.place, None)
            if kept is not None and _checks_alike(kept.one, one):
                self._courses[one.place] = kept
                if kept.judge and kept.judge.known:
                    self.say_verdict(one.place, kept.judge.known)
                continue
            if kept is not None:
                kept.end()
            # Another check of the same backend begins with the verdict that there is.
            said = kept.judge.known if kept is not None and kept.judge else None
            self._courses[one.place] = _Course(self, one, said or known.get(one.place))
        for gone in before.values():
            gone.end()

    def when_free(self, begin: Callable[[], None]) -> None:
        """Begin a check at once, or as soon as there is a socket for it."""
        if self._under_way < self._most_checks:
            begin()
        else:
            self._waiting.append(begin)

    def begun(self, *, is_late: bool) -> None:
        """Who waited for a free socket began late as well."""
        self._under_way += 1
        self._checks += 1
        self._late += is_late

    def ended(self) -> None:
        self._under_way -= 1
        while self._waiting and self._under_way < self._most_checks:
            self._waiting.popleft()()

    async def try_now(self, backends: Sequence[Watched]) -> list[Tried]:
        return list(await asyncio.gather(*(self._try(one) for one in backends)))

    def pace(self) -> Pace:
        """Since it was asked for last."""
        at, cpu = self._measured
        self._measured = now, now_cpu = time.monotonic(), time.process_time()
        seconds = max(now - at, 0.001)
        pace = Pace(
            self._checks / seconds,
            self._late / self._checks if self._checks else 0.0,
            (now_cpu - cpu) / seconds,
        )
        self._checks = self._late = 0
        return pace

    def stop(self) -> None:
        self._waiting.clear()
        for course in self._courses.values():
            course.end()
        self._courses = {}
        self.agenda.stop()

    async def ask(self, one: Watched, rule: LoadRule) -> None:
        """Ask a backend's agent for its load, again and again."""
        before: int | None = None
        await asyncio.sleep(random.uniform(0, min(rule.interval_s, 2.0)))
        while True:
            percent = None
            try:
                async with self._others:
                    percent = await ask_agent(one, rule)
            except Exception:
                log.exception("agent broke backend=%s", one.backend.key)
            # An agent that says nothing changes nothing: the check judges whether the backend lives.
            if percent is not None and percent != before:
                self._say_load(one.place, before := percent)
            await asyncio.sleep(_jittered(rule.interval_s))

    async def _try(self, one: Watched) -> Tried:
        if one.check is None:
            return Tried(False, "this backend has no check", 0.0)
        try:
            async with self._others:
                return await probe(one, one.check, scripts=self.scripts)
        except NotTried as lack:
            return Tried(False, f"not tried: the director has {lack}", 0.0)
        except Exception:
            # The answers about the others must come all the same.
            log.exception("try broke backend=%s check=%s", one.backend.key, one.check)
            return Tried(False, "not tried: the check broke, see the director's log", 0.0)


class _Course:
    """One backend that is watched, and what is known of it. One check at a time, and no task that waits for
    the next one."""

    def __init__(self, engine: Engine, one: Watched, known: Verdict | None) -> None:
        self.one = one
        self.judge: Judge | None = None
        self._engine = engine
        self._is_over = False
        self._due = 0.0
        # Of the check that is under way.
        self._give_up: Callable[[], object] | None = None
        self._deadline = 0.0
        self._is_guarded = False
        self._asking: asyncio.Task[None] | None = None
        if check := one.check:
            self.judge = Judge(check.rise, check.fall, one.flap_changes, one.flap_window_s, known)
            self._due = engine.agenda.now() + random.uniform(0, min(check.interval_s, 5.0))
            engine.agenda.at(self._due, self._turn)
        if one.load:
            self._asking = asyncio.get_running_loop().create_task(engine.ask(one, one.load))

    def end(self) -> None:
        self._is_over = True
        if self._give_up:
            self._give_up()
        if self._asking:
            self._asking.cancel()

    def _turn(self) -> None:
        self._engine.when_free(self._begin)

    def _begin(self) -> None:
        check, agenda = self.one.check, self._engine.agenda
        if self._is_over or check is None:
            return
        self._engine.begun(is_late=agenda.now() - self._due > LATE_SHARE * check.interval_s)
        self._deadline = agenda.now() + check.timeout_s
        self._guard()
        if check.kind not in CONNECTING:
            self._go_on(attempt(self.one, check, scripts=self._engine.scripts))
            return
        try:
            goal = goal_of(self.one, check)
            self._give_up = self._engine.connector.begin(goal, partial(self._connected, goal, check)).give_up
        except Exception as error:
            # Not at once: among thousands that wait, the end of one begins the next.
            agenda.at(agenda.now(), partial(self._take, partial(failed, check, error)))

    def _connected(self, goal: Goal, check: Check, code: int, connected: socket.socket | None) -> None:
        if connected is None:
            self._take(partial(failed, check, OSError(code, os.strerror(code))))
        elif check.kind is CheckKind.TCP:
            close_at_once(connected)
            self._take(lambda: Tried(True, "", 0.0))
        else:
            self._go_on(talk(connected, goal, check))

    def _go_on(self, trying: Coroutine[Any, Any, Tried]) -> None:
        task = asyncio.get_running_loop().create_task(trying)
        task.add_done_callback(lambda done: self._take(done.result))
        self._give_up = task.cancel

    def _guard(self) -> None:
        # One entry is enough: it comes before the deadline of a later check, and is then made anew.
        if not self._is_guarded:
            self._is_guarded = True
            self._engine.agenda.at(self._deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._is_guarded = False
        if self._give_up and self._engine.agenda.now() >= self._deadline:
            self._give_up()
        elif self._give_up:
            self._guard()

    def _take(self, answer: Callable[[], Tried]) -> None:
        """What a check came to, or raises."""
        check, agenda = self.one.check, self._engine.agenda
        self._give_up = None
        self._engine.ended()
        if check is None or self.judge is None:
            return
        tried: Tried | None = None
        try:
            tried = answer()
        except asyncio.CancelledError:
            tried = failed(check, TimeoutError())
        except NotTried as lack:
            log.error("check not tried backend=%s reason=%s", self.one.backend.key, lack)
        except Exception:
            # A mistake of ours says nothing of the backend, and must not end its checks.
            log.exception("check broke backend=%s check=%s", self.one.backend.key, check)
        if self._is_over:
            return
        now, due, pause = agenda.now(), self._due, check.interval_s
        if tried and check.retry_s and not tried.is_up:
            # The pause is one between two tries, however long the failed one took.
            due, pause = now, check.retry_s
        # One that hung goes on from now: two of a backend at once would help nobody.
        self._due = max(due + _jittered(pause), now)
        agenda.at(self._due, self._turn)
        if tried and (verdict := self.judge.take(tried.is_up, tried.reason, now=agenda.wall_clock())):
            self._engine.say_verdict(self.one.place, verdict)


def _jittered(pause_s: float) -> float:
    return pause_s * random.uniform(1 - _JITTER, 1)


def _checks_alike(one: Watched, other: Watched) -> bool:
    """Whether a check of the one is a check of the other: weights and thresholds mean nothing to it, and
    change often."""
    plain = other.backend._replace(
        weight=one.backend.weight, upper=one.backend.upper, lower=one.backend.lower
    )
    return one == replace(other, backend=plain)


def _most_at_once() -> int:
    return max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES_A_CHECK - _OTHER_FILES)


def raise_open_files() -> None:
    """As many sockets at once as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
