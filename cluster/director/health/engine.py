"""All checks of one director in one asyncio loop: a task for each backend, which waits, tries and judges."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.director.health import Pace, Tried, Watched
from cluster.director.health.probe import ask_agent, probe
from cluster.director.health.sockets import NotTried
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.policy import LoadRule, Place
from cluster.ipvs.traffic.verdicts import Judge

log = logging.getLogger(__name__)

# Of an interval: enough that thousands of checks do not fall into step, too little to be seen.
_JITTER = 0.1
# A check that begins later than this share of its interval after it was due is late.
LATE_SHARE = 0.1

# A script takes a pipe, and what starts it a few more for a moment.
_FILES_A_CHECK = 2
_OTHER_FILES = 32

SayVerdict = Callable[[Place, Verdict], None]
SayLoad = Callable[[Place, int], None]


@dataclass
class _Course:
    """One backend that is watched, and what is known of it."""

    one: Watched
    judge: Judge | None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()


class Engine:
    """`say_verdict` and `say_load` are called in the loop's thread, for each change."""

    def __init__(self, *, scripts: Path, say_verdict: SayVerdict, say_load: SayLoad) -> None:
        self._scripts = scripts
        self._say_verdict = say_verdict
        self._say_load = say_load
        self._courses: dict[Place, _Course] = {}
        self._sockets = asyncio.Semaphore(_most_at_once())
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
                    self._say_verdict(one.place, kept.judge.known)
                continue
            if kept is not None:
                kept.end()
            # Another check of the same backend begins with the verdict that there is.
            said = kept.judge.known if kept is not None and kept.judge else None
            self._courses[one.place] = self._begin(one, said or known.get(one.place))
        for gone in before.values():
            gone.end()

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
        for course in self._courses.values():
            course.end()
        self._courses = {}

    async def _try(self, one: Watched) -> Tried:
        if one.check is None:
            return Tried(False, "this backend has no check", 0.0)
        try:
            return await self._probe(one, one.check)
        except NotTried as lack:
            return Tried(False, f"not tried: the director has {lack}", 0.0)
        except Exception:
            # The answers about the others must come all the same.
            log.exception("try broke backend=%s check=%s", one.backend.key, one.check)
            return Tried(False, "not tried: the check broke, see the director's log", 0.0)

    async def _probe(self, one: Watched, check: Check, *, due: float | None = None) -> Tried:
        async with self._sockets:
            if due is not None:
                # Who waited for a free socket began late as well.
                self._checks += 1
                self._late += asyncio.get_running_loop().time() - due > LATE_SHARE * check.interval_s
            return await probe(one, check, scripts=self._scripts)

    def _begin(self, one: Watched, known: Verdict | None) -> _Course:
        judge = None
        if one.check:
            judge = Judge(one.check.rise, one.check.fall, one.flap_changes, one.flap_window_s, known)
        course = _Course(one, judge)
        loop = asyncio.get_running_loop()
        if one.check and judge:
            course.tasks.append(loop.create_task(self._check(one, one.check, judge)))
        if one.load:
            course.tasks.append(loop.create_task(self._ask(one, one.load)))
        return course

    async def _check(self, one: Watched, check: Check, judge: Judge) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + random.uniform(0, min(check.interval_s, 5.0))
        while True:
            await asyncio.sleep(due - loop.time())
            pause = check.interval_s
            try:
                tried = await self._probe(one, check, due=due)
            except NotTried as lack:
                log.error("check not tried backend=%s reason=%s", one.backend.key, lack)
            except Exception:
                # A mistake of ours says nothing of the backend, and must not end its checks.
                log.exception("check broke backend=%s check=%s", one.backend.key, check)
            else:
                if verdict := judge.take(tried.is_up, tried.reason, now=time.time()):
                    self._say_verdict(one.place, verdict)
                if check.retry_s and not tried.is_up:
                    # The pause is one between two tries, however long the failed one took.
                    due, pause = loop.time(), check.retry_s
            # One that hung goes on from now: two of a backend at once would help nobody.
            due = max(due + pause * random.uniform(1 - _JITTER, 1 + _JITTER), loop.time())

    async def _ask(self, one: Watched, rule: LoadRule) -> None:
        before: int | None = None
        await asyncio.sleep(random.uniform(0, min(rule.interval_s, 2.0)))
        while True:
            percent = None
            try:
                async with self._sockets:
                    percent = await ask_agent(one, rule)
            except Exception:
                log.exception("agent broke backend=%s", one.backend.key)
            # An agent that says nothing changes nothing: the check judges whether the backend lives.
            if percent is not None and percent != before:
                self._say_load(one.place, before := percent)
            await asyncio.sleep(rule.interval_s * random.uniform(1 - _JITTER, 1 + _JITTER))


def _checks_alike(one: Watched, other: Watched) -> bool:
    """Whether a check of the one is a check of the other: weights and thresholds mean nothing to it, and
    change often."""
    plain = replace(
        other.backend, weight=one.backend.weight, upper=one.backend.upper, lower=one.backend.lower
    )
    return one == replace(other, backend=plain)


def _most_at_once() -> int:
    return max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES_A_CHECK - _OTHER_FILES)


def raise_open_files() -> None:
    """As many sockets at once as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
