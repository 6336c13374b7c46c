"""`python -m cluster.director.health.process SCRIPTS`: checks until its standard input ends.

It takes lines from its worker and answers with lines (lines.py). That the worker has died it learns from the
end of its input: nobody has to tell it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from cluster.director.health import lines
from cluster.director.health.engine import Engine, raise_open_files
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.policy import Place

PACE_PERIOD_S = 5.0


class Talk:
    """The two ends of the worker's pipes. A place is said by its number in the newest list."""

    def __init__(self, scripts: Path, out: asyncio.StreamWriter) -> None:
        self._out = out
        self._numbers: dict[Place, int] = {}
        self._list = 0
        self._tries: set[asyncio.Task[None]] = set()
        self.engine = Engine(scripts=scripts, say_verdict=self._say_verdict, say_load=self._say_load)

    def take(self, said: dict[str, Any]) -> None:
        """Do what one line of the worker asks for."""
        if "watch" in said:
            rows = [lines.watched_in(row) for row in said["watch"]]
            self._list = said["list"]
            self._numbers = {one.place: number for number, (one, _) in enumerate(rows)}
            known = {one.place: verdict for one, verdict in rows if verdict}
            self.engine.watch([one for one, _ in rows], known)
        if "try" in said:
            task = asyncio.get_running_loop().create_task(self._try(said))
            self._tries.add(task)
            task.add_done_callback(self._tries.discard)

    async def pace(self) -> None:
        while True:
            await asyncio.sleep(PACE_PERIOD_S)
            self._say({"pace": lines.pace_out(self.engine.pace())})

    async def _try(self, said: dict[str, Any]) -> None:
        tried = await self.engine.try_now([lines.watched_in(row)[0] for row in said["try"]])
        self._say({"number": said["number"], "tried": [lines.tried_out(one) for one in tried]})

    def _say_verdict(self, place: Place, verdict: Verdict) -> None:
        told = [self._numbers[place], *lines.verdict_out(verdict)]
        self._say({"list": self._list, "verdict": told})

    def _say_load(self, place: Place, percent: int) -> None:
        self._say({"list": self._list, "load": [self._numbers[place], percent]})

    def _say(self, value: dict[str, Any]) -> None:
        self._out.write(lines.line(value))


async def check(scripts: Path) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=lines.LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    talk = Talk(scripts, asyncio.StreamWriter(transport, protocol, None, loop))
    pacing = loop.create_task(talk.pace())
    while said := await reader.readline():
        talk.take(json.loads(said))
    pacing.cancel()
    talk.engine.stop()


def main() -> None:
    raise_open_files()
    asyncio.run(check(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
