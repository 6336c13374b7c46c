"""Words in and out of the command line: texts read with a sentence for each line at fault, results told."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.director.converge import Result, to_payload
from cluster.director.included import Included
from cluster.director.journal import Record
from cluster.ipvs.formats import kinds
from cluster.ipvs.formats.fidelity import Parsed
from cluster.ipvs.formats.ipvsadm import command
from cluster.ipvs.formats.ipvsadm_settings import setting_command
from cluster.ipvs.impact import Sysctls, at_stake, impact
from cluster.ipvs.lint import table_warnings
from cluster.ipvs.plan import Plan
from cluster.ipvs.rules import table_problems
from cluster.ipvs.settings_plan import SettingStep
from cluster.ipvs.state import Service, ServiceKey
from cluster.ipvs.stats import BackendCounters, Counters, Reading
from cluster.wire.messages import Outcome

LARGEST_TEXT = 64 * 1024 * 1024


class TextError(Exception):
    """The text cannot be read; a sentence for each line at fault."""


def read_text(path: str | None, *, kind: str | None) -> Parsed:
    """The table and the settings of a file with what it includes, or of standard input, written as `kind` or
    as it looks. TextError where it cannot be read; what only could not be taken over is said on standard
    error."""
    try:
        if path is None:
            text = sys.stdin.read(LARGEST_TEXT + 1)
        else:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(LARGEST_TEXT + 1)
    except OSError as error:
        raise TextError(f"{path or 'Standard input'} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise TextError(f"{path or 'Standard input'} is not text in UTF-8.") from None
    if len(text) > LARGEST_TEXT:
        raise TextError(f"The text is longer than {LARGEST_TEXT} characters.")
    # Standard input has no folder that a name could be relative to.
    include = None if path is None else Included(Path(path).parent, most=LARGEST_TEXT - len(text))
    parsed = kinds.parse(text, kind=kind or kinds.guess(text) or "ipvsadm", include=include)
    if parsed.errors:
        raise TextError("\n".join(str(note) for note in parsed.errors))
    for remark in remarks(parsed):
        print(remark, file=sys.stderr)
    return parsed


def remarks(parsed: Parsed) -> list[str]:
    """The notes of a text, and a sentence about what was read of it that no table holds."""
    counts = {
        "health check": sum(map(len, parsed.checks.values())),
        "sorry server": len(parsed.sorry),
        "quiescent setting": len({(service, said) for (service, _), said in parsed.quiescent.items()}),
    }
    beyond = [f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items() if count]
    said = [str(note) for note in parsed.notes]
    if beyond:
        verb, them = ("is", "it") if sum(counts.values()) == 1 else ("are", "them")
        listed = " and ".join(filter(None, (", ".join(beyond[:-1]), beyond[-1])))
        said.append(f"{listed} {verb} not part of a table: import the file in the panel to keep {them}.")
    return said


def judged(parsed: Parsed, *, is_loud: bool) -> Parsed:
    """The same, if no rule stands against it; TextError else. Warnings go to standard error."""
    if problems := table_problems(parsed.table):
        raise TextError("\n".join(f"{key}: {problem.text} [{problem.code}]" for key, problem in problems))
    for key, problem in table_warnings(parsed.table) if is_loud else ():
        print(f"warning: {key}: {problem.text} [{problem.code}]", file=sys.stderr)
    return parsed


def tell(
    result: Result, said: Parsed, settings: Sequence[tuple[SettingStep, str]] = (), *, as_json: bool
) -> int:
    """Print what an apply of this text came to, and each step on settings with what stood against it; the
    exit status."""
    if as_json:
        told_settings = [_told(*one) for one in settings]
        print_json(to_payload(result, {}) | {"settings": told_settings, "notes": remarks(said)})
    else:
        stream = sys.stdout if result.outcome is Outcome.APPLIED else sys.stderr
        print(f"{result.text} {result.remedy}".rstrip(), file=stream)
        for step in result.steps():
            if step["error"]:
                print(f"{step['command']}: {step['error']}", file=sys.stderr)
        for setting, error in settings:
            print(error or f"Done: {setting}", file=sys.stderr if error else sys.stdout)
    is_whole = result.outcome is Outcome.APPLIED and not any(error for _, error in settings)
    return 0 if is_whole else 1


def _told(step: SettingStep, error: str) -> dict[str, str]:
    return {"kind": step.kind, "text": str(step), "command": setting_command(step), "error": error}


def told(
    todo: Plan, settings: Sequence[SettingStep], reading: Reading, sysctls: Sysctls
) -> list[dict[str, str]]:
    """The steps as words, commands and what they cost."""
    counted = at_stake(reading, todo.steps)
    return [
        {
            "kind": step.kind,
            "text": str(step),
            "command": command(step),
            "impact": impact(step, counted, sysctls),
        }
        for step in todo.steps
    ] + [
        {"kind": step.kind, "text": str(step), "command": setting_command(step), "impact": ""}
        for step in settings
    ]


def print_journal(record: Record | None) -> None:
    """What the worker was told last, and how that went."""
    if record is None:
        print("journal: none")
        return
    state = "applied" if record.is_applied else f"not applied (last applied: {record.applied_revision})"
    print(f"cluster: {record.cluster}")
    print(f"revision: {record.ordered.revision} of epoch {record.ordered.epoch}, {state}")
    print(f"owned services: {len(record.owned)}")


def lines(
    service: Service, reading: Reading, owned: frozenset[ServiceKey], *, with_totals: bool
) -> Iterator[str]:
    """A service and its backends, for people."""
    mark = " (ours)" if service.key in owned else ""
    held = f" persistent {service.persistence.timeout_s} s" if service.persistence else ""
    totals = _totals(reading.services.get(service.key, Counters())) if with_totals else ""
    yield f"{service.key} {service.scheduler}{held}{mark}{totals}"
    for backend in service.backends:
        one = reading.backends.get((service.key, backend.key), BackendCounters())
        totals = _totals(one.totals) if with_totals else ""
        yield (
            f"  -> {backend.key!s:<40} {backend.forwarding.word:<10} weight {backend.weight:<6}"
            f" active {one.active:<7} inactive {one.inactive:<7}{totals}".rstrip()
        )


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    json.dump(value, sys.stdout, indent=2)
    print()


def _totals(one: Counters) -> str:
    return (
        f" connections {one.connections} packets {one.in_packets}/{one.out_packets}"
        f" bytes {one.in_bytes}/{one.out_bytes}"
    )
