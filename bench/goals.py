"""What we want to be, as ratios of figures from one run."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.clients import percentile

PEERS = ("ours", "keepalived")
_BESIDE_KEEPALIVED = [
    (figure, peer)
    for figure in ("failed requests", "of them late", "no new connection after")
    for peer in PEERS
]

Figures = dict[str, list[float]]
Goals = dict[str, dict[str, Any]]


def goals(figures: Figures) -> Goals:
    """Each goal by its name: the value, what it should be, and whether it is."""
    return _judge(_speed(figures)) | zero_loss_goals(figures)


def zero_loss_goals(figures: Figures) -> Goals:
    """Those of bench/zero_loss.py alone."""
    return _judge(_zero_loss(figures))


def audit_goals(figures: Figures) -> Goals:
    """Those of bench/audit.py, for each database that was measured."""
    suffix = " ours first, CPU-ms"
    places = [name.removesuffix(suffix) for name in figures if name.endswith(suffix)]
    return _judge(goal for place in places for goal in _audit(figures, place)) | _judge(_growth(figures))


def print_figures(figures: Figures) -> None:
    print(f"\n{'figure':52}{'median':>12}{'least':>12}{'most':>12}{'times':>7}")
    for name, values in figures.items():
        print(f"{name:52}{median(values):12.4f}{min(values):12.4f}{max(values):12.4f}{len(values):7}")


def print_goals(reached: Goals) -> None:
    print(f"\n{'goal':72}{'value':>10}   {'goal':10}")
    for name, goal in reached.items():
        print(f"{name:72}{goal['value']:10.2f}   {goal['goal']:10}{'met' if goal['met'] else 'MISSED'}")


def _judge(found: Iterator[tuple[str, float, str, float]]) -> Goals:
    return {name: _judged(value, sign, goal) for name, value, sign, goal in found}


def _growth(figures: Figures) -> Iterator[tuple[str, float, str, float]]:
    large, small = (figures.get(f"PostgreSQL {size} ours deep, CPU-ms") for size in ("10M", "1M"))
    if large and small:
        yield "a deep page at 10M, times that at 1M", median(large) / median(small), "≤", 1.5


def _audit(figures: Figures, place: str) -> Iterator[tuple[str, float, str, float]]:
    def of(name: str) -> float:
        return median(figures[f"{place} {name}"])

    def cpu(name: str) -> float:
        return of(f"{name}, CPU-ms")

    yield f"{place}: first page, share of the admin's", cpu("ours first") / cpu("admin first"), "≤", 0.2
    yield f"{place}: deep page, share of the admin's", cpu("ours deep") / cpu("admin deep"), "≤", 0.125
    yield (
        f"{place}: filtered page, share of the admin's",
        cpu("ours filtered") / cpu("admin filtered"),
        "≤",
        0.25,
    )
    yield f"{place}: deep page, times the first", cpu("ours deep") / cpu("ours first"), "≤", 1.2
    for kind in (kind for kind in ("csv", "jsonl") if f"{place} export {kind}, MB grown" in figures):
        yield f"{place}: export {kind}, entries a second", of(f"export {kind}, entries/s"), "≥", 20_000
        yield f"{place}: export {kind}, MB grown", of(f"export {kind}, MB grown"), "≤", 50
    yield f"{place}: verified, entries a CPU second", of("verify, entries/CPU-s"), "≥", 50_000


def _speed(figures: Figures) -> Iterator[tuple[str, float, str, float]]:
    def of(name: str) -> float:
        return median(figures[name])

    for size, factor in (("1000x10", 3.0), ("1000x100", 1.3)):
        load = of(f"load {size}")
        yield f"full load {size}, times faster than ipvsadm -R", of(f"ipvsadm -R {size}") / load, "≥", 15
        yield f"full load {size}, times faster than keepalived", of(f"keepalived start {size}") / load, "≥", 5
        yield (
            f"load alone {size}, times the C floor",
            of(f"send {size}") / of(f"floor send {size}"),
            "≤",
            factor,
        )
    reload = of("keepalived reload 1000x100")
    known, audited = of("one weight, known state"), of("one weight, after an audit")
    yield "one weight, known state, times faster than a reload", reload / known, "≥", 200
    yield "one weight after an audit, share of a reload", audited / reload, "≤", 0.7
    read = of("read")
    yield "table and counters, times faster than ipvsadm", of("ipvsadm -Ln --stats") / read, "≥", 2
    yield "table and counters, times the receiving floor", read / of("floor receive"), "≤", 1.6
    yield "no-op apply, writes", max(figures["no-op writes"]), "≤", 0
    yield "worker with 100,000 backends, MB resident", of("worker resident"), "≤", 120
    for name in sorted({name.split()[1] for name in figures if name.startswith("parse ")}):
        parsed = of(f"parse {name} 1000x10")
        yield (
            f"parse 1000x10 of {name}, share of ipvsadm -R",
            parsed / of("ipvsadm -R 1000x10"),
            "≤",
            0.1,
        )
        growth = parsed / of(f"parse {name} 125x10") / 8
        yield f"parse of {name}, time a line at 1000x10 to that at 125x10", growth, "≤", 1.5
    growth = of("growth 10000x10") / of("growth 1000x10") / 10
    yield "time a service at 10,000 to that at 1,000", growth, "≤", 1.5
    growth = of("load 1000x100") / of("load 1000x10") / (101 / 11)
    yield "time a message at 1000x100 to that at 1000x10", growth, "≤", 1.5
    yield from _health(figures)


def _health(figures: Figures) -> Iterator[tuple[str, float, str, float]]:
    def of(name: str) -> float:
        return median(figures[f"health {name}"])

    for kind in ("tcp", "http"):
        yield f"5,000 {kind} checks each 2 s, share that began late", of(f"{kind} alone late"), "≤", 0.1
        yield f"5,000 {kind} checks each 2 s, cores", of(f"{kind} alone CPU"), "≤", 1
        for what in ("CPU", "death to verdict, p50", "death to verdict, p99"):
            ratio = of(f"{kind} ours {what}") / of(f"{kind} keepalived {what}")
            yield f"1,000 {kind} checks each 2 s, {what}, times keepalived's", ratio, "≤", 1
        unseen = max(of(f"{kind} {who} deaths unseen") for who in ("alone", "ours", "keepalived"))
        # Else a peer that was held up would make a ratio look like a victory.
        yield f"{kind} checks, deaths that a checker did not see", unseen, "≤", 0
        wrong = max(of(f"{kind} {who} wrongly down") for who in ("alone", "ours"))
        yield f"{kind} checks, living backends held for dead", wrong, "≤", 0


def _zero_loss(figures: Figures) -> Iterator[tuple[str, float, str, float]]:
    for name, values in figures.items():
        if name.startswith("failed requests, ") and not name.endswith(PEERS):
            yield name, sum(values), "≤", 0
    faults = {name: sorted(_of_all(figures, name)) for name in _BESIDE_KEEPALIVED}
    ours, theirs = (faults["failed requests", peer] for peer in PEERS)
    yield "dead backends: failed after they were out", sum(faults["of them late", "ours"]), "≤", 0
    yield "dead backends: failed requests, share of keepalived's", sum(ours) / sum(theirs), "≤", 1
    ours, theirs = (faults["no new connection after", peer] for peer in PEERS)
    for percent in (50, 99):
        share = percentile(ours, percent) / percentile(theirs, percent)
        yield f"dead backends: time to no new connection, p{percent}, share of keepalived's", share, "≤", 1


def _of_all(figures: Figures, wanted: tuple[str, str]) -> Iterator[float]:
    """The values of one peer over all kinds of fault."""
    begins, ends = wanted
    for name, values in figures.items():
        if name.startswith(begins + ", ") and name.endswith(", " + ends):
            yield from values


def _judged(value: float, sign: str, goal: float) -> dict[str, Any]:
    met = value >= goal if sign == "≥" else value <= goal
    return {"value": round(value, 4), "goal": f"{sign} {goal:g}", "met": met}
