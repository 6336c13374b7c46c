"""What Apply would do on each director, from what the director last said of its kernel.

A preview: the director plans again on its live kernel with the same function, and its report tells
what was really done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from cluster import desired, live, standing
from cluster.ipvs import tuning
from cluster.ipvs.compare import Said
from cluster.ipvs.formats.document import from_document, key_from_document
from cluster.ipvs.formats.ipvsadm import command
from cluster.ipvs.impact import impact
from cluster.ipvs.lint import table_warnings
from cluster.ipvs.plan import plan
from cluster.ipvs.rules import table_problems
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.traffic.document import from_document as traffic_from_document
from cluster.ipvs.traffic.effective import effective
from cluster.ipvs.traffic.policy import Policy, Traffic
from cluster.ipvs.traffic.rules import traffic_problems, traffic_warnings
from cluster.ipvs.traffic.words import policy_changes
from cluster.models import Cluster, Director

# What the review shows for a switch that the cluster does not name.
LEFT_ALONE = "left as it is"


@dataclass(frozen=True)
class StepView:
    """A step as the page shows it: words, command, and what it costs."""

    kind: str
    text: str
    command: str
    note: str = ""


@dataclass(frozen=True)
class DirectorReview:
    """One director's share of the review. `conflicts` are services that somebody else put there, because of
    which the `kept` ones are not removed; `adopted` are somebody else's too, just as the draft wants them;
    `missing_schedulers` are wanted, and its kernel can neither use nor load them."""

    one: live.DirectorLive
    presence: str
    steps: list[StepView]
    conflicts: list[str]
    kept: list[str]
    adopted: list[str]
    missing_schedulers: list[str]
    has_drifted: bool
    switches: list[StepView]

    @property
    def director(self) -> Director:
        return self.one.director

    @property
    def commands(self) -> str:
        return "\n".join(step.command for step in self.steps)

    @property
    def step_count(self) -> int:
        return len(self.switches) + len(self.steps)

    @property
    def changes_anything(self) -> bool:
        return bool(self.steps or self.conflicts or self.adopted or self.has_drifted or self.switches)


@dataclass(frozen=True)
class PolicyReview:
    """What Apply changes in how one service treats its backends: name, before and after of each thing."""

    service: str
    rows: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Review:
    """The draft's print, the rules it breaks, what it says that is rarely meant, the policies that differ
    from those of the newest revision, the switches that do, the virtual addresses that no director has, and a
    part for each director."""

    fingerprint: str
    problems: list[str]
    warnings: list[tuple[str, str]]
    policies: list[PolicyReview]
    switches: list[tuple[str, str, str]]
    homeless: list[str]
    directors: list[DirectorReview]

    @property
    def changes_anything(self) -> bool:
        of_all = self.policies or self.switches
        return bool(of_all) or any(part.changes_anything for part in self.directors)


def review(cluster: Cluster) -> Review:
    """Read the draft and the newest frames; no side effects."""
    table, traffic = desired.draft_table(cluster), desired.drafted(cluster)
    answers, before = live.read(cluster.directors.all()), _newest_traffic(cluster)
    found = [*table_problems(table), *traffic_problems(table, traffic)]
    problems = [f"{key}: {problem.text}" for key, problem in found]
    doubts = [*table_warnings(table), *traffic_warnings(table, traffic)]
    return Review(
        desired.draft_print(table, traffic.policies, traffic.switches),
        problems,
        [(str(key), problem.text) for key, problem in doubts],
        _changed_policies(before, traffic),
        _changed_switches(before.switches, traffic.switches),
        _homeless(table, answers.directors),
        _parts(cluster, table, traffic, answers),
    )


def steps_to(cluster: Cluster, said: Said) -> list[DirectorReview]:
    """What each director would do to have this content, a draft's or an old revision's, with the drains and
    profiles of now."""
    traffic = Traffic(said.policies, switches=said.switches)
    return _parts(cluster, said.table, traffic, live.read(cluster.directors.all()))


def _parts(cluster: Cluster, table: Table, traffic: Traffic, answers: live.Live) -> list[DirectorReview]:
    now = desired.with_operations(traffic, cluster)
    return [_part(one, table, now, redis_is_up=answers.redis_is_up) for one in answers.directors]


def _newest_traffic(cluster: Cluster) -> Traffic:
    newest = cluster.revisions.only("traffic").first()
    return traffic_from_document(newest.traffic) if newest and newest.traffic else Traffic()


def _changed_policies(before: Traffic, after: Traffic) -> list[PolicyReview]:
    """Of all services that are in the draft or were in the newest revision."""
    changed = []
    for key in sorted({*before.policies, *after.policies}):
        rows = policy_changes(before.policies.get(key, Policy()), after.policies.get(key, Policy()))
        if rows:
            changed.append(PolicyReview(str(key), rows))
    return changed


def _changed_switches(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str, str]]:
    pairs = [(name, before.get(name, LEFT_ALONE), after.get(name, LEFT_ALONE)) for name in {*before, *after}]
    return sorted(row for row in pairs if row[1] != row[2])


def reported_table(director: Director) -> Table:
    """The owned services that the director's last report held."""
    return from_document(director.table) if director.table else Table()


def has_drifted(one: live.DirectorLive) -> bool:
    """The kernel holds something else than its director brought it to, by the director's own comparison: it
    alone knows what verdicts and drains make of the table now. False while an order is under way."""
    if one.frame is None or not one.shows_kernel:
        return False
    wanted = one.frame.payload.get("wanted")
    return bool(wanted) and wanted != one.frame.payload.get("fingerprint")


def _part(one: live.DirectorLive, table: Table, traffic: Traffic, *, redis_is_up: bool) -> DirectorReview:
    actual, owned = actual_table(one)
    # What Apply brings the kernel to is the draft under verdicts and drains; they are not to be undone.
    now = one.frame.at if one.frame else time.time()
    wanted = effective(table, traffic, standing.observed_by(one), now=now).table
    planned = plan(actual, wanted, owned=owned)
    counted, sysctls = live.open_connections(one), sysctls_of(one.director)
    return DirectorReview(
        one,
        live.presence(one, redis_is_up=redis_is_up),
        [
            StepView(step.kind, str(step), command(step), impact(step, counted, sysctls))
            for step in planned.steps
        ],
        [str(key) for key in planned.conflicts],
        [str(key) for key in planned.kept],
        [str(key) for key in planned.adopted],
        _missing(table, one.director),
        has_drifted(one),
        _switch_steps(one, traffic.switches),
    )


def actual_table(one: live.DirectorLive) -> tuple[Table, frozenset[ServiceKey]]:
    """The kernel as the director last showed it, and which of it is ours: the fresh frame, which has all
    services, else the last report, which has ours alone."""
    if one.shows_kernel:
        owned = {key_from_document(service) for service in one.services if service["owned"]}
        return one.table, frozenset(owned)
    return reported_table(one.director), frozenset(key_from_document(key) for key in one.director.owned)


def _switch_steps(one: live.DirectorLive, wanted: Mapping[str, str]) -> list[StepView]:
    """The switches that Apply sets on this director. None where it has not said what it has: it may keep its
    table in memory, or not have been heard."""
    held: dict[str, str | None] = dict(sysctls_of(one.director))
    # Its frame is newer than its last hello, and says what it has of those that are not as wanted.
    held |= {odd.name: odd.held for odd in one.odd_switches if odd.held}
    refused = {odd.name: odd.problem for odd in one.odd_switches}
    steps = tuning.switches_to_set(held, wanted) if held else []
    return [StepView("change", str(step), step.command, refused.get(step.name, "")) for step in steps]


def _missing(table: Table, director: Director) -> list[str]:
    known = director.facts.get("schedulers")
    return sorted({service.scheduler for service in table} - set(known)) if known else []


def _homeless(table: Table, directors: list[live.DirectorLive]) -> list[str]:
    """Virtual addresses that no director has on an interface: no packet for them arrives anywhere.
    Silent while a director has not said which addresses it has."""
    said = [one.director.facts.get("addresses") for one in directors]
    if not said or not all(said):
        return []
    held = {address for addresses in said for address in addresses}
    wanted = {service.key.address for service in table if not service.key.mark}
    return sorted(wanted - held)


def sysctls_of(director: Director) -> dict[str, str]:
    """The director's values below net.ipv4.vs, as it last told them."""
    said = director.facts.get("settings", {})
    return {one.name: one.value for one in tuning.from_document(said.get("sysctls")) if one.value is not None}
