"""The bench's own arithmetic: what it measures is the same for all, and a missed goal is told as one."""

from __future__ import annotations

from bench.goals import Figures, audit_goals, goals
from bench.inside import PARSERS
from bench.scene import both_services
from bench.scene_keepalived import configuration
from bench.tables import as_keepalived, table, with_one_weight
from cluster.ipvs.formats import keepalived_reader
from cluster.ipvs.plan import Operation, plan

FIGURES: Figures = {
    **{
        f"{name} {size}": [1.0] for size in ("1000x10", "1000x100") for name in ("load", "send", "floor send")
    },
    **{f"ipvsadm -R {size}": [15.0] for size in ("1000x10", "1000x100")},
    **{f"keepalived start {size}": [5.0] for size in ("1000x10", "1000x100")},
    "keepalived reload 1000x100": [1.0],
    "one weight, known state": [0.005],
    "one weight, after an audit": [0.7],
    "read": [1.6],
    "floor receive": [1.0],
    "ipvsadm -Ln --stats": [3.2],
    "no-op writes": [0.0, 0.0],
    "worker resident": [120.0],
    "parse ipvsadm 1000x10": [1.5],
    "parse ipvsadm 125x10": [0.18],
    "parse keepalived 1000x10": [1.5],
    "parse keepalived 125x10": [0.18],
    "growth 10000x10": [10.0],
    "growth 1000x10": [1.0],
    **{
        f"health {kind} {who} {what}": [value]
        for kind in ("tcp", "http")
        for who, what, value in (
            ("alone", "late", 0.1),
            ("alone", "CPU", 1.0),
            ("alone", "wrongly down", 0.0),
            ("ours", "wrongly down", 0.0),
            *((who, "deaths unseen", 0.0) for who in ("alone", "ours", "keepalived")),
            *(
                (who, what, 0.5)
                for who in ("ours", "keepalived")
                for what in ("CPU", "death to verdict, p50", "death to verdict, p99")
            ),
        )
    },
    "failed requests, every backend drained and restarted": [0.0],
    "failed requests, frozen, ours": [10.0, 11.0],
    "failed requests, frozen, keepalived": [12.0, 13.0],
    "failed requests, kill -9, ours": [3.0],
    "failed requests, kill -9, keepalived": [1.0],
    "of them late, frozen, ours": [0.0, 0.0],
    "of them late, frozen, keepalived": [1.0, 0.0],
    "no new connection after, frozen, ours": [3.5, 4.0],
    "no new connection after, frozen, keepalived": [5.5, 6.0],
}


def missed(figures: Figures) -> list[str]:
    return [name for name, goal in goals(figures).items() if not goal["met"]]


def test_goals_that_are_just_reached_are_met() -> None:
    assert missed(FIGURES) == []


def test_each_goal_can_be_missed() -> None:
    worse = {
        name: [value * (0.5 if "ipvsadm -" in name else 2) for value in values]
        for name, values in FIGURES.items()
    }
    assert {name for name in worse if missed(FIGURES | {name: worse[name]})} >= {
        "load 1000x10",
        "send 1000x100",
        "one weight, known state",
        "one weight, after an audit",
        "read",
        "ipvsadm -Ln --stats",
        "ipvsadm -R 1000x10",
        "worker resident",
        "parse ipvsadm 1000x10",
        "parse keepalived 1000x10",
        "growth 10000x10",
        "health tcp alone late",
        "health http alone CPU",
        "health tcp ours CPU",
        "health http ours death to verdict, p99",
    }
    dead = missed(FIGURES | {"health tcp ours wrongly down": [3.0]})
    assert dead == ["tcp checks, living backends held for dead"]
    held_up = missed(FIGURES | {"health http keepalived deaths unseen": [35.0]})
    assert held_up == ["http checks, deaths that a checker did not see"]
    assert missed(FIGURES | {"no-op writes": [0.0, 1.0, 0.0]}) == ["no-op apply, writes"]


def test_one_lost_request_misses_a_goal_of_ours() -> None:
    name = "failed requests, every backend drained and restarted"
    assert missed(FIGURES | {name: [1.0]}) == [name]
    late = missed(FIGURES | {"of them late, frozen, ours": [0.0, 1.0]})
    assert late == ["dead backends: failed after they were out"]


def test_dead_backends_may_cost_no_more_and_no_longer_than_keepalived() -> None:
    more = missed(FIGURES | {"failed requests, kill -9, ours": [6.0]})
    assert more == ["dead backends: failed requests, share of keepalived's"]
    longer = missed(FIGURES | {"no new connection after, frozen, ours": [3.5, 6.5]})
    assert longer == ["dead backends: time to no new connection, p99, share of keepalived's"]


def test_keepalived_looks_after_the_same_services_in_the_zero_loss_scenes() -> None:
    assert keepalived_reader.parse(configuration()).table == both_services()


def test_the_middle_of_several_measurements_counts() -> None:
    assert missed(FIGURES | {"one weight, known state": [0.001, 0.005, 9.0]}) == []


def test_every_peer_is_given_the_same_table() -> None:
    wanted = table(300, 10)
    for _, text_of, read in PARSERS:
        assert getattr(read(text_of(wanted)), "table", None) == wanted
    said = as_keepalived(wanted)
    assert said.count("virtual_server ") == len(wanted) == 300
    places = [f"real_server {one.address} {one.port} {{" for service in wanted for one in service.backends]
    assert len(set(places)) == 3000 and all(place in said for place in places)


def test_one_weight_is_one_step() -> None:
    before = table(20, 10)
    (step,) = plan(before, with_one_weight(before, 7), owned=before.keys).steps
    assert step.operation is Operation.SET_BACKEND and step.service.key == before.services[-1].key


def test_each_database_with_an_audit_log_has_goals_of_its_own() -> None:
    figures = {
        f"{place} {name}": [value]
        for place in ("PostgreSQL 1M", "SQLite 1M")
        for name, value in (
            ("ours first, CPU-ms", 20.0),
            ("ours deep, CPU-ms", 20.0),
            ("ours filtered, CPU-ms", 20.0),
            ("admin first, CPU-ms", 100.0),
            ("admin deep, CPU-ms", 159.0),
            ("admin filtered, CPU-ms", 100.0),
            *((f"export {kind}, entries/s", 20_000.0) for kind in ("csv", "jsonl")),
            *((f"export {kind}, MB grown", 50.0) for kind in ("csv", "jsonl")),
            ("verify, entries/CPU-s", 50_000.0),
        )
    }
    reached = audit_goals(figures)
    missed = [name for name, goal in reached.items() if not goal["met"]]
    assert len(reached) == 18
    assert missed == [f"{place}: deep page, share of the admin's" for place in ("PostgreSQL 1M", "SQLite 1M")]
