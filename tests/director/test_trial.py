"""An order that nobody confirms goes back by itself, whatever happens to panel, worker and machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.director import journal as journal_module
from cluster.director.apply import restore, take
from cluster.director.journal import Journal, JournalError, write_durably
from cluster.director.kernel import NoAnswer
from cluster.director.kernel.memory import Faults, Killed, MemoryKernel
from cluster.director.reconcile import Reconciler
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.state import Table
from cluster.ipvs.stats import BackendCounters, Reading
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.policy import Drain, Policy, Target, Traffic
from cluster.wire.messages import Operation
from tests.director.stage import NOW, Stage, backend, service, table

BEFORE = table(service(1, backend(1), backend(2)), service(2, backend(3)))
AFTER = table(service(1, backend(2, weight=5), backend(4), scheduler="wlc"), service(3, backend(5)))
FOREIGN = service(9, backend(9))
WITHIN_S = 300.0


class Theatre:
    """A director with its loop."""

    told: dict[str, Any]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.start()

    def start(self) -> None:
        self.director = self.stage.director()
        self.loop = Reconciler(self.director)

    def kill_and_start(self) -> None:
        """A worker that was killed, and the one after it."""
        self.start()
        restore(self.director)

    def try_out(self, wanted: Table, revision: int = 2, **trial: Any) -> dict[str, Any]:
        payload = {"table": to_document(wanted), "trial": {"within_s": WITHIN_S} | trial}
        return self.take(wanted, payload=payload, revision=revision)

    def take(self, wanted: Table, **changes: Any) -> dict[str, Any]:
        take(self.stage.order(wanted, **changes), self.director)
        said: dict[str, Any] = self.stage.sent[-1]["payload"] if self.stage.sent else {}
        return said

    def confirm(self, revision: int = 2) -> dict[str, Any]:
        return self.take(Table(), operation=Operation.CONFIRM, revision=revision, payload={}, run="run-c")

    def later(self, seconds: float) -> None:
        self.stage.now += seconds
        self.loop.round()

    @property
    def actual(self) -> Table:
        return self.stage.actual

    @property
    def went_back(self) -> list[dict[str, Any]]:
        return [said for said in self.stage.sent if said["event"] == "went-back"]


def on_trial(stage: Stage) -> Theatre:
    """Revision 1 is in force, and revision 2 on trial."""
    tried = Theatre(stage)
    tried.take(BEFORE)
    tried.told = tried.try_out(AFTER)
    return tried


@pytest.fixture
def tried(stage: Stage) -> Theatre:
    return on_trial(stage)


def test_what_nobody_confirms_goes_back_and_is_told(tried: Theatre) -> None:
    assert tried.told["outcome"] == "applied" and tried.actual == AFTER
    tried.later(WITHIN_S - 1)
    assert tried.actual == AFTER and not tried.went_back
    tried.later(1)
    assert tried.actual == BEFORE
    said = tried.went_back[0]
    assert (said["run"], said["revision"], said["payload"]["back"]) == ("run-1", 2, 1)
    assert said["payload"]["outcome"] == "applied"
    assert "went back from revision 2, because nobody confirmed it in time." in said["payload"]["text"]
    tried.later(60)
    assert len(tried.went_back) == 1


def test_switches_go_back_too_whether_they_were_asked_for_before_or_not(stage: Stage, tmp_path: Path) -> None:
    stage.switches = tmp_path / "vs"
    stage.switches.mkdir()
    held = {"conntrack": "0", "expire_nodest_conn": "0", "sync_threshold": "3 50"}
    for name, value in held.items():
        (stage.switches / name).write_text(value)

    def order(**switches: str) -> dict[str, Any]:
        said = traffic_document.to_document(Traffic(switches=switches))
        return {"table": to_document(BEFORE), "traffic": said}

    def now() -> dict[str, str]:
        return {name: (tmp_path / "vs" / name).read_text() for name in held}

    tried = Theatre(stage)
    tried.take(BEFORE, payload=order(conntrack="1"))
    payload = order(conntrack="0", expire_nodest_conn="1") | {"trial": {"within_s": WITHIN_S}}
    tried.take(BEFORE, payload=payload, revision=2)
    assert now() == held | {"expire_nodest_conn": "1"}
    tried.later(WITHIN_S)
    assert now() == held | {"conntrack": "1"} and tried.went_back


def test_what_is_confirmed_stays(tried: Theatre) -> None:
    tried.later(WITHIN_S - 1)
    assert tried.confirm()["text"] == "Revision 2 is confirmed on director1; it stays."
    tried.later(2 * WITHIN_S)
    assert tried.actual == AFTER and not tried.went_back
    assert tried.confirm()["outcome"] == "applied"
    tried.stage.kernel = MemoryKernel()
    tried.kill_and_start()
    assert tried.actual == AFTER


def test_a_confirmation_that_comes_too_late_is_refused(tried: Theatre) -> None:
    tried.stage.now += WITHIN_S
    assert tried.confirm()["outcome"] == "refused", "the loop has not looked yet"
    tried.later(0)
    assert tried.actual == BEFORE
    said = tried.confirm()
    assert said["outcome"] == "refused" and "went back from revision 2 already" in said["text"]
    assert tried.confirm(revision=1)["outcome"] == "applied", "which needs none"
    assert tried.confirm(revision=7)["outcome"] == "unknown", "its order may come yet"
    tried.take(BEFORE, revision=3)
    assert "does not have revision 1" in tried.confirm(revision=1)["text"]


def test_with_the_broker_away_it_goes_back_and_tells_later(tried: Theatre) -> None:
    tried.stage.is_broker_away = True
    tried.later(WITHIN_S)
    assert tried.actual == BEFORE and not tried.went_back
    tried.stage.is_broker_away = False
    tried.director.reporter.flush()
    assert len(tried.went_back) == 1


def test_a_clock_that_is_set_changes_nothing(tried: Theatre) -> None:
    for off_s in (86_400.0, -86_400.0):
        tried.stage.wall_off_s = off_s
        tried.later(1)
        assert tried.actual == AFTER
    tried.later(WITHIN_S)
    assert tried.actual == BEFORE


def test_after_a_restart_of_the_worker_the_time_goes_on(tried: Theatre) -> None:
    tried.stage.now += 100
    tried.kill_and_start()
    assert tried.actual == AFTER
    tried.later(WITHIN_S - 101)
    assert tried.actual == AFTER
    tried.later(1)
    assert tried.actual == BEFORE


def test_a_worker_that_was_away_at_the_end_goes_back_when_it_starts(tried: Theatre) -> None:
    tried.stage.now += WITHIN_S + 60
    tried.stage.is_broker_away = True
    tried.kill_and_start()
    assert tried.actual == BEFORE
    tried.stage.is_broker_away = False
    tried.director.reporter.flush()
    assert len(tried.went_back) == 1


def test_a_reboot_before_the_end_restores_what_was_confirmed(tried: Theatre) -> None:
    tried.stage.now += 10
    tried.stage.boot, tried.stage.kernel = "boot-2", MemoryKernel(table(FOREIGN))
    tried.kill_and_start()
    assert tried.actual == table(FOREIGN, *BEFORE.services)
    assert "restarted before anybody confirmed it" in tried.went_back[0]["payload"]["cause"]
    tried.later(WITHIN_S)
    assert len(tried.went_back) == 1


def test_a_reboot_of_a_table_that_was_to_be_empty_restores_what_was_confirmed(tried: Theatre) -> None:
    stage = tried.stage
    tried.confirm()
    tried.try_out(Table(), revision=3)
    assert tried.actual == Table()
    tried.kill_and_start()
    assert tried.actual == Table(), "the machine has not been restarted"
    stage.boot = "boot-2"
    tried.kill_and_start()
    assert tried.actual == AFTER


def test_under_another_boot_the_walls_clock_counts_and_one_that_went_back_is_over(tried: Theatre) -> None:
    """The kernel still carries traffic, so that nothing says that it was a restart."""
    tried.stage.boot, tried.stage.now = "boot-2", NOW + 100
    tried.kill_and_start()
    assert tried.actual == AFTER
    tried.stage.wall_off_s = -3600
    tried.later(1)
    assert tried.actual == BEFORE


def test_an_old_copy_of_the_order_does_not_bring_it_back(tried: Theatre) -> None:
    tried.later(WITHIN_S)
    said = tried.try_out(AFTER)
    assert said["outcome"] == "refused" and "went back from revision 2 already" in said["text"]
    assert tried.actual == BEFORE
    tried.kill_and_start()
    assert tried.try_out(AFTER)["outcome"] == "refused"


def test_the_old_content_under_a_new_number_is_taken_after_it_went_back(tried: Theatre) -> None:
    tried.later(WITHIN_S)
    assert tried.take(BEFORE, revision=1)["outcome"] == "refused", "its number is older"
    said = tried.take(BEFORE, revision=3)
    assert (said["outcome"], said["planned"]) == ("applied", 0)
    assert tried.try_out(AFTER, revision=4)["outcome"] == "applied"
    assert tried.actual == AFTER


def test_an_old_copy_of_a_confirmed_order_begins_no_new_trial(tried: Theatre) -> None:
    tried.confirm()
    tried.try_out(AFTER)
    tried.later(2 * WITHIN_S)
    assert tried.actual == AFTER


def test_a_repeated_order_does_not_make_the_time_longer(tried: Theatre) -> None:
    tried.later(200)
    tried.try_out(AFTER)
    tried.later(101)
    assert tried.actual == BEFORE


def test_a_newer_order_without_a_trial_ends_it(tried: Theatre) -> None:
    tried.take(AFTER, revision=3)
    tried.later(2 * WITHIN_S)
    assert tried.actual == AFTER and not tried.went_back


def test_a_drain_during_a_trial_outlives_it(tried: Theatre) -> None:
    drain = Drain(1, (Target(address="10.0.0.2"),), 0.0, None, None)
    payload = {
        "table": to_document(AFTER),
        "traffic": traffic_document.to_document(Traffic(drains=(drain,))),
        "trial": {"within_s": WITHIN_S},
    }
    tried.later(200)
    assert tried.take(AFTER, payload=payload, revision=3)["outcome"] == "applied"
    tried.later(100)
    (shop, _) = tried.actual
    assert {str(one.key): one.weight for one in shop.backends} == {"10.0.0.1:80": 1, "10.0.0.2:80": 0}


def test_a_service_of_somebody_else_that_became_ours_is_let_go_and_not_removed(stage: Stage) -> None:
    stage.kernel = MemoryKernel(table(AFTER.services[1]))
    tried = on_trial(stage)
    assert "managed from now on: TCP 192.0.2.3:80" in tried.told["text"]
    tried.later(WITHIN_S)
    assert tried.actual == table(*BEFORE.services, AFTER.services[1])
    assert {key["address"] for key in tried.went_back[0]["payload"]["owned"]} == {"192.0.2.1", "192.0.2.2"}


def test_a_first_order_goes_back_to_nothing_and_leaves_what_is_not_ours(stage: Stage) -> None:
    stage.kernel = MemoryKernel(table(FOREIGN))
    tried = Theatre(stage)
    tried.try_out(AFTER)
    assert tried.actual == table(FOREIGN, *AFTER.services)
    tried.later(WITHIN_S)
    assert tried.actual == table(FOREIGN)


def test_what_cannot_be_applied_whole_goes_back_at_once(stage: Stage) -> None:
    stage.rehearsal = "off"
    tried = on_trial(stage)
    tried.confirm()
    stage.kernel.faults = Faults(refuse={stage.kernel.writes + 2: 12})
    said = tried.try_out(BEFORE, revision=3)
    assert said["outcome"] in ("partial", "failed") and "went back from revision 3" in said["text"]
    assert tried.actual == AFTER
    assert tried.went_back[-1]["payload"]["cause"].startswith("it could not be applied whole")


def test_killed_at_any_step_before_the_end_it_ends_in_the_confirmed_table(
    make_stage: Callable[[], Stage],
) -> None:
    for kill_at in range(1, 9):
        stage = make_stage()
        tried = Theatre(stage)
        tried.take(BEFORE)
        stage.kernel.faults = Faults(kill_at=stage.kernel.writes + kill_at)
        try:
            tried.try_out(AFTER)
        except Killed:
            stage.kernel.faults = Faults()
            tried.kill_and_start()
            assert tried.actual == AFTER, "an order that was begun goes on"
        stage.kernel.faults = Faults()
        tried.later(WITHIN_S)
        assert tried.actual == BEFORE, kill_at


def test_killed_at_any_step_or_write_while_it_goes_back_the_next_start_finishes_it(
    make_stage: Callable[[], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = writes = 0
    for kind in ("step", "write"):
        point = 0
        while True:
            point += 1
            stage = make_stage()
            tried = on_trial(stage)
            stage.now += WITHIN_S
            left = point

            def write(path: Path, data: bytes) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Killed
                write_durably(path, data)

            with monkeypatch.context() as patch:
                if kind == "step":
                    stage.kernel.faults = Faults(kill_at=stage.kernel.writes + point)
                else:
                    patch.setattr(journal_module, "write_durably", write)
                    patch.setattr("cluster.director.reports.write_durably", write)
                try:
                    tried.loop.round()
                    survived = True
                except Killed:
                    survived = False
            stage.kernel.faults = Faults()
            tried.kill_and_start()
            assert tried.actual == BEFORE, (kind, point)
            tried.later(1)
            assert tried.went_back, (kind, point)
            assert tried.try_out(AFTER)["outcome"] == "refused", (kind, point)
            if survived:
                break
            steps, writes = steps + (kind == "step"), writes + (kind == "write")
    assert steps >= 5 and writes >= 3


def test_a_silent_kernel_is_asked_until_it_has_gone_back_and_told_of_once_more(tried: Theatre) -> None:
    tried.stage.kernel.faults = Faults(silent=NoAnswer("no answer"))
    for _ in range(20):
        tried.later(WITHIN_S / 10)
    assert [said["payload"]["outcome"] for said in tried.went_back] == ["unknown"]
    tried.stage.kernel.faults = Faults()
    tried.later(6)
    assert tried.actual == BEFORE
    assert [said["payload"]["outcome"] for said in tried.went_back] == ["unknown", "applied"]


def test_with_a_full_disk_it_goes_back_all_the_same(tried: Theatre, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: bytes) -> None:
        raise JournalError(f"The file {path} cannot be written: No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "write_durably", full)
        patch.setattr("cluster.director.reports.write_durably", full)
        tried.later(WITHIN_S)
        assert tried.actual == BEFORE
        for _ in range(3):
            tried.later(6)
            assert tried.actual == BEFORE
    tried.later(6)
    record = Journal(tried.stage.state_dir).read()
    assert record is not None and record.trial is None and record.went_back and record.went_back.is_told


SHOP = AFTER.services[0]


def _guarded(stage: Stage) -> Theatre:
    """Three backends in service, and an order that wants no fewer."""
    tried = on_trial(stage)
    tried.confirm()
    document = traffic_document.to_document(Traffic(policies={SHOP.key: Policy(check=Check())}))
    trial = {"within_s": WITHIN_S, "backends_percent": 20}
    payload = {"table": to_document(AFTER), "traffic": document, "trial": trial}
    assert tried.take(AFTER, payload=payload, revision=3)["outcome"] == "applied"
    tried.later(1)
    return tried


def test_backends_that_fall_ill_bring_the_old_table_back(stage: Stage) -> None:
    tried = _guarded(stage)
    stage.checker.say(SHOP, SHOP.backends[0], Verdict(False, "connect timeout", NOW))
    tried.later(1)
    tried.later(4)
    assert not tried.went_back, "one look is not enough"
    tried.later(5)
    assert tried.went_back[0]["payload"]["cause"] == "backends in service fell from 3 to 2"


def test_backends_that_recover_in_time_do_not(stage: Stage) -> None:
    tried = _guarded(stage)
    for up in (False, True, False, True):
        stage.checker.say(SHOP, SHOP.backends[0], Verdict(up, "", NOW))
        tried.later(1)
        tried.later(3)
    assert not tried.went_back


def _connected(wanted: Table, active: int) -> Reading:
    """Each backend has so many connections."""
    counted = BackendCounters(active=active)
    return Reading(wanted, {}, {(one.key, back.key): counted for one in wanted for back in one.backends})


def test_connections_that_fall_bring_the_old_table_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = Theatre(stage)
    tried.take(BEFORE)
    with monkeypatch.context() as patch:
        patch.setattr(stage.kernel, "read", lambda: _connected(stage.kernel._table(BEFORE.keys), 100))
        tried.try_out(table(BEFORE.services[0]), connections_percent=50)
    fewer = table(BEFORE.services[0])
    for active, causes in ((80, []), (70, ["open connections fell from 300 to 140"])):
        tried.director.aim.reading = _connected(fewer, active)
        for _ in range(8):
            tried.later(1)
        assert [said["payload"]["cause"] for said in tried.went_back] == causes
    assert tried.actual == BEFORE


@pytest.mark.parametrize(
    "trial",
    [7, {}, {"within_s": True}, {"within_s": 0}, {"within_s": 10**400}, {"within_s": 10**9}]
    + [{"within_s": 60, "backends_percent": said} for said in (-1, 100, "7", 2.5)],
)
def test_a_trial_that_cannot_be_read_is_refused_and_nothing_touched(stage: Stage, trial: Any) -> None:
    stage.apply(BEFORE)
    payload = {"table": to_document(AFTER), "trial": trial}
    order = stage.order(AFTER, payload=payload, revision=2)
    take(order, stage.director())
    assert stage.sent[-1]["payload"]["outcome"] == "refused" and stage.actual == BEFORE


def test_without_a_kernel_to_read_nothing_is_tried(stage: Stage) -> None:
    tried = Theatre(stage)
    tried.take(BEFORE)
    stage.kernel.faults = Faults(silent=NoAnswer("no answer"))
    said = tried.try_out(AFTER)
    assert said["outcome"] == "failed" and "what to go back to" in said["text"]
    stage.kernel.faults = Faults()
    assert stage.actual == BEFORE


def test_a_reboot_in_the_middle_of_going_back_ends_there_too(tried: Theatre) -> None:
    stage = tried.stage
    stage.now += WITHIN_S
    stage.kernel.faults = Faults(kill_at=stage.kernel.writes + 2)
    with pytest.raises(Killed):
        tried.loop.round()
    stage.boot, stage.kernel = "boot-2", MemoryKernel()
    tried.kill_and_start()
    assert tried.actual == BEFORE
