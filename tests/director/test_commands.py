"""The command line: what an ipvsadm user types, and what it must never do to the panel's services."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.director import __main__ as program
from cluster.director import commands
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.lock import locked
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.ipvs.stats import BackendCounters, Reading
from tests.director.command_line import TEXT, WEB, Run
from tests.director.command_line import kernel as kernel
from tests.director.command_line import run as run
from tests.director.stage import Stage, backend, service, table
from tests.director.test_start import written

ROOT = Path(__file__).parents[2]


def test_what_is_saved_can_be_restored_and_saved_again(run: Run, kernel: MemoryKernel) -> None:
    status, said, _ = run("restore", text=TEXT)
    assert status == 0 and "3 steps done and read back" in said
    assert run("save") == (0, TEXT, "")
    assert run("restore", text=TEXT)[1].endswith("nothing was changed.\n")


def test_a_file_does_as_well_as_standard_input(run: Run, kernel: MemoryKernel, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(TEXT)
    assert run("apply", str(tmp_path / "rules"))[0] == 0
    assert kernel.read().table == table(WEB)


def test_plan_says_what_apply_would_do_and_does_nothing(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=TEXT)
    before = kernel.writes
    status, said, _ = run("plan", text=TEXT.replace("-w 1", "-w 5", 1).replace("10.0.0.2", "10.0.0.3"))
    assert status == 3
    assert "~ Change backend 10.0.0.1:80 of TCP 192.0.2.1:80: weight 1 → 5. Connections stay." in said
    assert "    ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.3:80 -m -w 1" in said
    assert "- Remove backend 10.0.0.2:80" in said and "No established connections now." in said
    assert kernel.writes == before
    assert run("plan", text=TEXT) == (0, "The kernel holds this already.\n", "")


def test_services_that_the_text_does_not_name_stay_unless_it_is_to_be_exact(
    run: Run, kernel: MemoryKernel
) -> None:
    run("restore", text=TEXT + "-A -u 192.0.2.9:53 -s rr\n-a -u 192.0.2.9:53 -r 10.0.0.1:53 -m\n")
    assert run("apply", text=TEXT)[0] == 0
    assert len(kernel.read().table) == 2
    assert run("apply", "--exact", text=TEXT)[0] == 0
    assert kernel.read().table == table(WEB)


def test_an_empty_text_does_not_remove_everything(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=TEXT)
    status, _, said = run("apply", "--exact", text="")
    assert status == 1 and "The text names no service" in said
    assert kernel.read().table == table(WEB)


def test_a_line_that_cannot_be_read_is_named_and_nothing_is_done(run: Run, kernel: MemoryKernel) -> None:
    status, _, said = run("restore", text=TEXT + "-a -t 192.0.2.1:80 -r 10.0.0.9:80 -m -w x\n")
    assert status == 2 and "line 4: error:" in said
    assert kernel.writes == 0


def test_a_rule_blocks_apply_and_a_warning_does_not(run: Run, kernel: MemoryKernel) -> None:
    status, _, said = run("apply", text=TEXT.replace("-w 1", "-w 70000", 1))
    assert status == 2 and "[weight-range]" in said and kernel.writes == 0
    status, _, said = run("apply", text=TEXT.replace("-w 1", "-w 3", 1))
    assert status == 0 and "warning: TCP 192.0.2.1:80: rr does not look at weights" in said


def test_a_start_of_the_machine_is_not_judged(run: Run, kernel: MemoryKernel) -> None:
    assert run("restore", text=TEXT.replace("-w 1", "-w 70000", 1))[0] == 0


def test_a_refusal_has_its_own_status_and_touches_nothing(run: Run, kernel: MemoryKernel) -> None:
    kernel.schedulers = frozenset({"wlc"})
    status, _, said = run("apply", text=TEXT)
    assert status == 1 and "In a rehearsal" in said and "no such scheduler" in said
    assert kernel.writes == 0
    status, _, said = run("apply", "--no-rehearsal", text=TEXT)
    assert status == 1 and kernel.writes == 1


def test_what_goes_is_given_time_to_end_its_connections(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=TEXT)
    seen: list[Table] = []
    read = kernel.read

    def noted():  # type: ignore[no-untyped-def]
        reading = read()
        seen.append(reading.table)
        return reading

    kernel.read = noted  # type: ignore[method-assign]
    smaller = "".join(TEXT.splitlines(keepends=True)[:2])
    assert run("apply", "--quiesce", "5", text=smaller)[0] == 0
    assert table(service(1, backend(1), backend(2, weight=0))) in seen
    assert read().table == table(service(1, backend(1)))


@pytest.mark.parametrize(
    ("protocol", "active", "inactive", "is_busy"),
    [
        (Protocol.TCP, 1, 0, True),
        (Protocol.TCP, 0, 1, False),
        (Protocol.UDP, 0, 1, True),
        (Protocol.FIREWALL_MARK, 1, 0, True),
        (Protocol.FIREWALL_MARK, 0, 1, True),
        (Protocol.FIREWALL_MARK, 0, 0, False),
    ],
)
def test_flows_that_may_be_udp_are_waited_for(
    kernel: MemoryKernel,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
    active: int,
    inactive: int,
    is_busy: bool,
) -> None:
    marked = protocol is Protocol.FIREWALL_MARK
    key = ServiceKey(protocol, "0.0.0.0", 0, 7) if marked else ServiceKey(protocol, "192.0.2.1", 80)
    going = Service(key, backends=(backend(1),))
    counted = {(key, going.backends[0].key): BackendCounters(active=active, inactive=inactive)}
    reading = Reading(Table((going,)), {}, counted)
    monkeypatch.setattr(kernel, "read", lambda: reading)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    commands._wait_for_connections(kernel, Table((going,)), Table(), 0.01)
    assert bool(waited) is is_busy


@pytest.mark.parametrize("seconds", ["nan", "-5", "-0.1", "inf", "-inf", "soon"])
def test_a_time_that_is_none_is_refused(
    run: Run, kernel: MemoryKernel, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    with pytest.raises(SystemExit) as end:
        run("apply", f"--quiesce={seconds}", text=TEXT)
    said = capsys.readouterr().err
    assert end.value.code == 2 and kernel.writes == 0
    assert f"argument --quiesce: {seconds} is not a number of seconds from 0 on" in said
    assert run("apply", "--quiesce=0", text=TEXT)[0] == 0


def test_what_the_panel_owns_is_left_to_the_panel(
    run: Run, kernel: MemoryKernel, stage: Stage, tmp_path: Path
) -> None:
    stage.kernel = kernel
    stage.apply(table(WEB))
    config = str(written(tmp_path, state_dir=str(stage.state_dir)))
    other = TEXT.replace("-w 1", "-w 5")
    for verb in ("apply", "restore", "plan"):
        status, _, said = run(verb, "--config", config, text=other)
        assert status == 1 and "TCP 192.0.2.1:80 is owned by the panel's orders" in said
    assert run("apply", "--exact", "--config", config, text="")[0] == 0
    assert kernel.read().table == table(WEB)
    assert run("apply", "--override", "--config", config, text=other)[0] == 0
    assert kernel.read().table == table(service(1, backend(1, weight=5), backend(2, weight=5)))


def test_a_command_waits_for_the_worker_and_then_says_so(run: Run, stage: Stage, tmp_path: Path) -> None:
    config = str(written(tmp_path, state_dir=str(stage.state_dir)))
    with locked(stage.state_dir / "lock", within_s=0):
        status, _, said = run("apply", "--config", config, text=TEXT)
    assert status == 1 and "is applying an order" in said


def test_a_state_dir_that_is_not_there_is_one_sentence(
    run: Run, kernel: MemoryKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(written(tmp_path))
    for options in (["apply"], ["apply", "--quiesce", "1"], ["restore"]):
        status, _, said = run(*options, "--config", config, text=TEXT)
        assert status == 2 and said.splitlines() == [
            f"The state_dir {tmp_path}/state cannot be written to: No such file or directory. Make the"
            " folder, or run this as the user that its worker runs as."
        ]

    def refused(path: Path, **_: float) -> None:
        # The tests may run as root, whom no permission stops.
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(commands, "locked", refused)
    status, _, said = run("apply", "--config", config, text=TEXT)
    assert status == 2 and "cannot be written to: Permission denied." in said and kernel.writes == 0


def test_show_lists_what_runs_and_whose_it_is(
    run: Run, kernel: MemoryKernel, stage: Stage, tmp_path: Path
) -> None:
    assert run("show") == (0, "The kernel has no services.\n", "")
    stage.kernel = kernel
    stage.apply(table(WEB), revision=3)
    config = str(written(tmp_path, state_dir=str(stage.state_dir)))
    status, said, _ = run("show", "--stats", "--config", config)
    assert status == 0
    assert "revision: 3 of epoch 1, applied" in said and "TCP 192.0.2.1:80 rr (ours)" in said
    assert "-> 10.0.0.2:80" in said and "packets 0/0" in said


def test_json_is_for_programs(run: Run, kernel: MemoryKernel) -> None:
    assert [step["kind"] for step in json.loads(run("plan", "--json", text=TEXT)[1])["steps"]] == ["add"] * 3
    assert json.loads(run("apply", "--json", text=TEXT)[1])["outcome"] == "applied"
    assert json.loads(run("save", "--json")[1])["services"][0]["port"] == 80
    shown = json.loads(run("show", "--json")[1])["services"][0]
    assert shown["backends"][0]["active"] == 0 and shown["owned"] is False


def test_help_speaks_to_whoever_knows_ipvsadm(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "ipvsadm-restore" in said and "exit status" in said


def test_help_says_what_restore_does_not_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["restore", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "It judges nothing" in said and "no saved file holds the switches net.ipv4.vs.*" in said


def test_no_command_but_the_worker_loads_celery_or_redis() -> None:
    code = """
import sys, runpy
sys.argv = ["x", "plan", "/dev/null", "--config", sys.argv[1]]
try:
    runpy.run_module("cluster.director", run_name="__main__")
except SystemExit:
    pass
assert not {"celery", "redis"} & set(sys.modules)
print("none")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "/nowhere.json"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "none\n", done.stderr


def test_weights_alone_are_applied_without_a_rehearsal(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=TEXT)
    assert run("apply", text=TEXT.replace("-w 1", "-w 3"))[0] == 0
    heavier = tuple(one._replace(weight=3) for one in WEB.backends)
    assert kernel.read().table == table(WEB.with_backends(heavier))


def test_every_format_is_read_and_written(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=TEXT)
    for kind in ("keepalived", "ldirectord", "json", "yaml"):
        status, text, _ = run("save", "--format", kind)
        assert status == 0
        # Guessed, and with its kind named.
        assert run("plan", text=text)[0] == 0
        assert run("plan", "--format", kind, text=text)[0] == 0
