"""What an operator notices of an order: what it did, what it left alone, and what it says."""

from __future__ import annotations

import errno

import pytest

from cluster.director import host
from cluster.director.apply import take
from cluster.director.kernel import (
    CannotRehearse,
    HalfRead,
    KernelError,
    KernelRefused,
    KernelUnavailable,
    NoAnswer,
    NotPermitted,
)
from cluster.director.kernel.memory import Faults, MemoryKernel
from cluster.director.lock import locked
from cluster.ipvs.formats.document import from_document
from cluster.ipvs.state import Table
from cluster.wire.envelope import SigningKey
from cluster.wire.messages import Operation
from tests.director.stage import Stage, backend, service, table

SHOP = table(service(1, backend(1), backend(2)), service(2, backend(3)))


def test_an_order_makes_the_kernel_hold_its_table(stage: Stage) -> None:
    said = stage.apply(SHOP)
    assert stage.actual == SHOP
    assert said["outcome"] == "applied"
    assert said["text"] == "director1's kernel holds revision 1: 5 steps done and read back."
    assert from_document(said["table"]) == SHOP
    assert [report["event"] for report in stage.sent] == ["started", "finished"]


def test_each_step_is_told_with_the_command_that_does_the_same(stage: Stage) -> None:
    said = stage.apply(table(service(1, backend(1))))
    assert said["steps"][1] == {
        "kind": "add",
        "status": "done",
        "text": "Add backend 10.0.0.1:80 to TCP 192.0.2.1:80, masquerade, weight 1.",
        "command": "ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1",
        "error": "",
        "impact": "",
    }


def test_a_repeated_order_writes_nothing(stage: Stage) -> None:
    stage.apply(SHOP)
    before = stage.kernel.writes
    said = stage.apply(SHOP)
    assert stage.kernel.writes == before
    assert (said["outcome"], said["planned"]) == ("applied", 0)


def test_a_repeated_order_repairs_what_somebody_changed(stage: Stage) -> None:
    stage.apply(SHOP)
    stage.kernel = MemoryKernel(table(service(1, backend(1, weight=7))))
    assert stage.apply(SHOP)["outcome"] == "applied"
    assert stage.actual == SHOP


def test_a_service_that_left_the_table_is_removed(stage: Stage) -> None:
    stage.apply(SHOP)
    stage.apply(table(SHOP.services[0]), revision=2)
    assert stage.actual == table(SHOP.services[0])


def test_services_of_somebody_else_stay(stage: Stage) -> None:
    foreign = service(9, backend(9))
    stage.kernel = MemoryKernel(table(foreign))
    stage.apply(SHOP)
    said = stage.apply(Table(), revision=2)
    assert stage.actual == table(foreign)
    assert said["owned"] == []


def test_a_foreign_service_with_the_same_key_is_left_alone_and_the_rest_applied(stage: Stage) -> None:
    foreign = service(1, backend(99))
    stage.kernel = MemoryKernel(table(foreign))
    said = stage.apply(SHOP)
    assert said["outcome"] == "partial"
    assert "TCP 192.0.2.1:80 is in director1's kernel with another content" in said["text"]
    assert "ipvsadm -D -t 192.0.2.1:80" in said["remedy"]
    assert stage.actual == table(foreign, SHOP.services[1])


def test_what_is_adopted_is_told_also_where_another_service_is_in_the_way(stage: Stage) -> None:
    stage.kernel = MemoryKernel(table(service(1, backend(99)), SHOP.services[1]))
    said = stage.apply(SHOP)
    assert said["outcome"] == "partial"
    assert "managed from now on: TCP 192.0.2.2:80." in said["text"]


def test_nothing_but_a_foreign_service_is_refused(stage: Stage) -> None:
    stage.kernel = MemoryKernel(table(service(1, backend(99))))
    assert stage.apply(table(SHOP.services[0]))["outcome"] == "refused"
    assert stage.kernel.writes == 0


def test_a_service_found_just_as_wanted_becomes_ours(stage: Stage) -> None:
    stage.kernel = MemoryKernel(table(SHOP.services[0]))
    said = stage.apply(table(SHOP.services[0]))
    assert said["text"].endswith("and managed from now on: TCP 192.0.2.1:80.")
    assert stage.kernel.writes == 0
    stage.apply(Table(), revision=2)
    assert stage.actual == Table()


def test_a_service_that_appears_between_reading_and_writing_is_not_taken_over(stage: Stage) -> None:
    foreign = service(1, backend(99))

    class Raced(MemoryKernel):
        def do(self, steps):  # type: ignore[no-untyped-def]
            if self.writes == 0:
                self._headers[foreign.key] = foreign.header
                self._backends[foreign.key] = {one.key: one for one in foreign.backends}
            return super().do(steps)

    stage.kernel = Raced()
    assert stage.apply(SHOP)["outcome"] == "partial"
    assert stage.actual.by_key[foreign.key] == foreign


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ESRCH, errno.ENOENT])
def test_a_table_that_moved_is_read_again_and_not_a_failure(stage: Stage, code: int) -> None:
    stage.kernel.faults = Faults(refuse={3: code})
    said = stage.apply(SHOP)
    assert said["outcome"] == "applied"
    assert stage.actual == SHOP


def test_what_the_kernel_would_refuse_is_found_while_nothing_is_at_stake(stage: Stage) -> None:
    stage.apply(SHOP)
    before = stage.kernel.writes
    wanted = table(service(1, backend(1), scheduler="nosuch"), service(2, backend(7)))
    said = stage.apply(wanted, revision=2)
    assert (said["outcome"], said["detail"]) == ("failed", "ENOENT (2)")
    assert said["text"].startswith("In a rehearsal, nothing of director1's table being touched: ")
    assert [step["status"] for step in said["steps"]] == ["failed", "skipped"]
    assert stage.kernel.writes == before and stage.actual == SHOP
    assert from_document(said["table"]) == SHOP


def test_a_weight_alone_needs_no_rehearsal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.apply(SHOP)

    def rehearsed(*_: object) -> None:
        raise AssertionError("There is nothing that the kernel could refuse.")

    monkeypatch.setattr(MemoryKernel, "rehearse", rehearsed)
    lighter = table(service(1, backend(1, weight=7), backend(2)), service(2))
    assert stage.apply(lighter, revision=2)["outcome"] == "applied"
    said = stage.apply(table(service(3)), revision=3)
    assert said["bug"], "A new service is rehearsed."


def test_where_no_rehearsal_can_be_had_the_report_says_so_and_the_order_is_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise CannotRehearse("the worker may not make a network namespace (Operation not permitted)")

    monkeypatch.setattr(MemoryKernel, "rehearse", cannot)
    said = stage.apply(SHOP)
    assert said["outcome"] == "applied" and stage.actual == SHOP
    assert "It was not rehearsed first: the worker may not make a network namespace" in said["text"]


def test_a_step_that_the_kernel_refuses_is_told_and_other_services_go_on(stage: Stage) -> None:
    stage.rehearsal = "off"
    wanted = table(service(1, backend(1), scheduler="nosuch"), service(2, backend(3)))
    said = stage.apply(wanted)
    assert said["outcome"] == "partial"
    assert "no such scheduler" in said["text"]
    assert said["detail"] == "ENOENT (2)"
    assert [bool(step["error"]) for step in said["steps"]].count(True) == 2
    assert said["steps"][-1]["error"] == "Not tried, because an earlier step of this service was refused."
    assert stage.actual == table(wanted.services[1])


def test_a_kernel_that_takes_no_step_is_a_failure(stage: Stage) -> None:
    assert stage.apply(table(service(1, scheduler="nosuch")))["outcome"] == "failed"


def test_nothing_is_removed_where_adding_was_refused(stage: Stage) -> None:
    stage.apply(table(service(1, backend(1))))
    said = stage.apply(table(service(1, backend(2, lower=5))), revision=2)
    assert said["outcome"] == "failed"
    assert stage.actual == table(service(1, backend(1)))


def test_a_service_that_moves_stays_where_it_is_until_the_new_place_holds(stage: Stage) -> None:
    stage.rehearsal = "off"
    here, there = table(service(1, backend(1))), table(service(2, backend(1), scheduler="nosuch"))
    stage.apply(here)
    said = stage.apply(there, revision=2)
    assert said["outcome"] == "failed"
    assert said["steps"][-1]["error"].startswith("Not removed, because an earlier step was refused")
    assert stage.actual == here
    there = table(service(2, backend(1)))
    assert stage.apply(there, revision=3)["outcome"] == "applied"
    assert stage.actual == there


def test_a_service_that_moves_to_somebody_elses_stays_as_well(stage: Stage) -> None:
    here, foreign = service(1, backend(1)), service(2, backend(99))
    stage.apply(table(here))
    stage.kernel = MemoryKernel(table(here, foreign))
    said = stage.apply(table(service(2, backend(1))), revision=2)
    assert said["outcome"] == "refused"
    assert "Until that is settled, nothing is removed: TCP 192.0.2.1:80." in said["text"]
    assert stage.actual == table(here, foreign)
    assert from_document(said["table"]) == table(here)


def test_what_turned_out_to_be_somebody_elses_stays_theirs_if_the_kernel_falls_silent(stage: Stage) -> None:
    foreign = service(1, backend(99))

    class Raced(MemoryKernel):
        def do(self, steps):  # type: ignore[no-untyped-def]
            self._headers[foreign.key] = foreign.header
            self._backends[foreign.key] = {one.key: one for one in foreign.backends}
            answers = super().do(steps)
            self.faults = Faults(silent=HalfRead("It was cut."))
            return answers

    stage.kernel = Raced()
    assert stage.apply(SHOP)["outcome"] == "unknown"
    stage.kernel.faults = Faults()
    stage.kernel = MemoryKernel(stage.actual)
    assert stage.apply(Table(), revision=2)["outcome"] == "applied"
    assert stage.actual == table(foreign)


def test_another_content_of_the_same_revision_is_refused(stage: Stage) -> None:
    stage.apply(SHOP, revision=3)
    said = stage.apply(Table(), revision=3)
    assert said["outcome"] == "refused" and "another content of revision 3" in said["text"]
    assert stage.actual == SHOP


def test_what_a_removal_did_to_connections_is_told(stage: Stage) -> None:
    stage.apply(SHOP)
    said = stage.apply(table(SHOP.services[1]), revision=2)
    assert [step["impact"] for step in said["steps"]] == ["No established connections now."]


def test_an_older_revision_is_refused_with_the_reason(stage: Stage) -> None:
    stage.apply(SHOP, revision=5)
    said = stage.apply(Table(), revision=4, run="run-2")
    assert said["outcome"] == "refused"
    assert "revision 4 of epoch 1 is older" in said["text"]
    assert stage.actual == SHOP
    assert "table" not in said


def test_a_higher_epoch_starts_the_revisions_anew(stage: Stage) -> None:
    stage.apply(SHOP, revision=5)
    assert stage.apply(Table(), epoch=2, revision=1)["outcome"] == "applied"
    assert stage.apply(SHOP, epoch=1, revision=9)["outcome"] == "refused"


def test_another_cluster_needs_a_higher_epoch(stage: Stage) -> None:
    stage.apply(SHOP)
    assert stage.apply(Table(), cluster="bank", revision=2)["outcome"] == "refused"
    assert stage.apply(Table(), cluster="bank", revision=1, epoch=2)["outcome"] == "applied"


def test_a_forged_order_is_dropped_without_a_word_of_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.panel, real = SigningKey(b"m" * 32), stage.panel
    forged = stage.order(SHOP, operator="mallory was here")
    stage.panel = real
    director = stage.director()
    take(forged, director)
    assert stage.sent == [] and stage.kernel.writes == 0
    assert director.facts()["orders_dropped"] == 1, "the panel is told how many, and no word of them"
    assert "order dropped" in caplog.text and "mallory" not in caplog.text


@pytest.mark.parametrize("nonsense", [None, 7, "text", [], {}, {"body": 1, "signature": 2}])
def test_nonsense_in_the_queue_is_dropped(stage: Stage, nonsense: object) -> None:
    take(nonsense, stage.director())
    assert stage.sent == []


def test_an_order_for_another_director_is_dropped(stage: Stage) -> None:
    take(stage.order(SHOP, director="director2"), stage.director())
    assert stage.sent == [] and stage.kernel.writes == 0


@pytest.mark.parametrize(("late_s", "outcome"), [(1490, "applied"), (1510, "unknown")])
def test_an_order_is_too_old_only_beyond_the_clocks_tolerance(
    stage: Stage, late_s: int, outcome: str
) -> None:
    envelope = stage.order(SHOP)
    stage.now += late_s
    take(envelope, stage.director())
    assert stage.sent[-1]["payload"]["outcome"] == outcome
    assert (len(stage.actual) == 0) == (outcome == "unknown")


def test_an_order_from_the_future_says_that_the_clocks_differ(stage: Stage) -> None:
    envelope = stage.order(SHOP)
    stage.now -= 3600
    take(envelope, stage.director())
    said = stage.sent[-1]["payload"]
    assert said["outcome"] == "unknown" and "compare the clocks" in said["remedy"]


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        (KernelUnavailable("x"), "failed", "has no IPVS: the module ip_vs is not loaded."),
        (NotPermitted("x"), "failed", "lacks CAP_NET_ADMIN."),
        (NoAnswer("x"), "unknown", "gave no answer in time."),
        (HalfRead("It was cut."), "failed", "could not be read whole"),
        (KernelRefused(errno.EBUSY), "failed", "The kernel was busy and did not read the table of"),
        (KernelError("No netlink socket could be opened: Too many open files."), "failed", "Too many open"),
    ],
)
def test_a_kernel_that_cannot_be_reached_is_said_in_a_sentence(
    stage: Stage, fault: Exception, outcome: str, words: str
) -> None:
    stage.kernel.faults = Faults(silent=fault)  # type: ignore[arg-type]
    said = stage.apply(SHOP)
    assert said["outcome"] == outcome and words in said["text"] and said["remedy"]
    assert "table" not in said


def test_silence_after_the_writes_is_unknown_or_applied_as_the_reading_tells(stage: Stage) -> None:
    class Silent(MemoryKernel):
        does = 2

        def do(self, steps):  # type: ignore[no-untyped-def]
            super().do(steps[: self.does])
            raise NoAnswer("The kernel did not answer within 10 s.")

    stage.kernel = Silent()
    said = stage.apply(SHOP)
    assert said["outcome"] == "unknown" and "3 steps were not done" in said["text"]
    assert [step["status"] for step in said["steps"]] == ["done"] * 2 + ["skipped"] * 3
    assert said["steps"][0]["text"] == "Add service TCP 192.0.2.1:80, scheduler rr."
    assert all("gave no answer" in step["error"] for step in said["steps"][2:])
    stage.kernel.does = 9
    assert stage.apply(SHOP)["outcome"] == "applied"


def test_a_mistake_of_ours_is_reported_as_one_and_logged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stage.kernel, "do", broken)
    said = stage.apply(SHOP)
    assert (said["outcome"], said["bug"], said["detail"]) == ("failed", True, "ZeroDivisionError")
    assert "Traceback" in caplog.text


def test_a_table_of_another_version_is_refused(stage: Stage) -> None:
    assert stage.apply(SHOP, payload={"table": {"version": 99}})["outcome"] == "refused"
    assert stage.apply(SHOP, payload={})["outcome"] == "refused"


def test_a_second_worker_waits_and_then_says_that_it_could_not(stage: Stage) -> None:
    with locked(stage.state_dir / "lock", within_s=1):
        said = stage.apply(SHOP)
    assert said["outcome"] == "unknown" and "is applying" in said["text"]


def test_loading_a_module_answers_with_the_machines_facts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "load_module", lambda config, name: "")
    said = stage.apply(SHOP, operation=Operation.LOAD_MODULE, payload={"module": "ip_vs_mh"}, revision=0)
    assert said["outcome"] == "applied" and said["facts"]["stand_in"] is True
    assert "table" not in said


def test_a_full_disk_stops_before_the_kernel_is_touched(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.director.journal import Journal, JournalError

    def full(*_: object) -> None:
        raise JournalError("The file journal.json cannot be written: No space left on device.")

    monkeypatch.setattr(Journal, "write", full)
    said = stage.apply(SHOP)
    assert said["outcome"] == "failed" and "No space left" in said["text"]
    assert stage.kernel.writes == 0


def test_very_many_steps_are_cut_with_the_troubled_ones_first() -> None:
    from cluster.director.converge import MOST_STEPS_TOLD, Result
    from cluster.director.kernel import Answer
    from cluster.ipvs.plan import Operation as Step_
    from cluster.ipvs.plan import Step
    from cluster.wire.messages import Outcome

    fine = Answer(Step(Step_.ADD_SERVICE, service(1)), 0)
    answers = (*[fine] * 600, fine._replace(errno=errno.EINVAL))
    told = Result(Outcome.PARTIAL, "", answers=answers).steps()
    assert len(told) == MOST_STEPS_TOLD and told[0]["error"]
