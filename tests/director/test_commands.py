"""The command line: what an ipvsadm user types, and what it must never do to the panel's services."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.director import __main__ as program
from cluster.director import commands, settings_commands
from cluster.director.config import Config
from cluster.director.kernel import HalfRead, KernelError, KernelRefused, NoAnswer
from cluster.director.kernel.memory import Faults, MemoryKernel
from cluster.director.lock import locked
from cluster.ipvs.settings import DEFAULT_TIMEOUTS, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.ipvs.stats import BackendCounters, Reading
from tests.director.stage import Stage, backend, service, table
from tests.director.test_start import written

ROOT = Path(__file__).parents[2]
TEXT = """-A -t 192.0.2.1:80 -s rr
-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1
-a -t 192.0.2.1:80 -r 10.0.0.2:80 -m -w 1
"""
WEB = service(1, backend(1), backend(2))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel()


@pytest.fixture
def run(
    kernel: MemoryKernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """The program with this kernel and without settings, unless they are named; its status and words."""

    def make_kernel(config: Config | None) -> MemoryKernel:
        return kernel

    monkeypatch.setattr(commands, "make_kernel", make_kernel)
    monkeypatch.setattr(settings_commands, "make_kernel", make_kernel)
    monkeypatch.setattr(program, "USUAL_CONFIG", tmp_path / "none.json")
    monkeypatch.setattr(commands, "LOCK_DEADLINE_S", 0.1)

    def call(*arguments: str, text: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = program.main(list(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


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


def test_timeouts_are_set_and_shown(run: Run, kernel: MemoryKernel) -> None:
    assert run("timeouts", "600", "0", "60") == (0, "", "")
    said = run("settings")[1]
    assert "timeout tcp: 600 s" in said and "timeout tcpfin: 120 s" in said and "timeout udp: 60 s" in said
    assert json.loads(run("settings", "--json")[1])["timeouts"]["udp_s"] == 60
    status, _, said = run("timeouts", "--", "-1", "0", "0")
    assert status == 1 and "The timeout must be between" in said


def test_sync_daemons_are_started_shown_and_stopped(run: Run, kernel: MemoryKernel) -> None:
    assert run("start-daemon", "master", "eth0", "--sync-id", "7") == (0, "", "")
    assert "master sync daemon: eth0, id 7, 224.0.0.81" in run("settings")[1]
    status, _, said = run("start-daemon", "master", "eth0")
    assert status == 1 and "one of its role runs already" in said
    status, _, said = run("start-daemon", "backup", "nosuch0")
    assert status == 1 and "the network interface does not exist" in said
    assert run("start-daemon", "backup", "eth0", "--sync-id", "300")[2].startswith("The sync id must be")
    assert run("stop-daemon", "master") == (0, "", "")
    assert "sync daemons: none" in run("settings")[1]
    assert "it does not run" in run("stop-daemon", "master")[2]


WITH_SETTINGS = f"--set 600 0 60\n--start-daemon master --mcast-interface eth0 --syncid 7\n{TEXT}"


def test_a_text_sets_the_timeouts_and_starts_the_daemons_that_it_names(
    run: Run, kernel: MemoryKernel
) -> None:
    for verb in ("restore", "apply"):
        status, said, _ = run("plan", text=WITH_SETTINGS)
        assert status == 3 and "~ Set the timeouts: tcp 600 s, udp 60 s." in said
        assert "    ipvsadm --set 600 0 60" in said and "+ Start the master sync daemon on eth0" in said
        assert kernel.read_settings().daemons == ()
        assert run(verb, text=WITH_SETTINGS)[0] == 0
        found = kernel.read_settings()
        assert found.timeouts == Timeouts(600, 120, 60)
        assert [(one.role.word, one.interface, one.sync_id) for one in found.daemons] == [
            ("master", "eth0", 7)
        ]
        assert run("plan", text=WITH_SETTINGS) == (0, "The kernel holds this already.\n", "")
        assert "nothing was changed" in run(verb, text=WITH_SETTINGS)[1]
        kernel.stop_daemon(SyncRole.MASTER)
        kernel.set_timeouts(DEFAULT_TIMEOUTS)


def test_settings_that_the_text_does_not_name_stay(run: Run, kernel: MemoryKernel) -> None:
    kernel.set_timeouts(Timeouts(1000, 100, 10))
    kernel.start_daemon(SyncDaemon(SyncRole.BACKUP, "lo", 3))
    before = kernel.read_settings()
    assert run("apply", "--exact", text=TEXT)[0] == 0
    assert kernel.read_settings() == before
    assert run("apply", text=WITH_SETTINGS)[0] == 0
    assert before.daemons[0] in kernel.read_settings().daemons


def test_a_daemon_that_runs_otherwise_is_stopped_and_started_as_the_text_says(
    run: Run, kernel: MemoryKernel
) -> None:
    kernel.start_daemon(SyncDaemon(SyncRole.MASTER, "lo", 3))
    said = run("plan", text=WITH_SETTINGS)[1]
    assert said.index("- Stop the master sync daemon on lo with id 3.") < said.index("+ Start the master")
    assert run("apply", text=WITH_SETTINGS)[0] == 0
    assert [one.interface for one in kernel.read_settings().daemons] == ["eth0"]


def test_a_daemon_that_is_refused_is_told_and_the_rest_is_done(run: Run, kernel: MemoryKernel) -> None:
    text = WITH_SETTINGS.replace("eth0", "nosuch0") + "--start-daemon backup --mcast-interface lo\n"
    status, said, problem = run("apply", text=text)
    assert status == 1 and "3 steps done and read back" in said
    assert "The kernel refused to start the master sync daemon: the network interface does not" in problem
    assert [one.role.word for one in kernel.read_settings().daemons] == ["backup"]
    status, said, _ = run("apply", "--json", text=text)
    (refused,) = json.loads(said)["settings"]
    assert status == 1 and refused["error"] and refused["command"].startswith("ipvsadm --start-daemon master")


def test_a_silent_kernel_leaves_it_open_whether_a_setting_was_done(run: Run, kernel: MemoryKernel) -> None:
    def silent(timeouts: Timeouts) -> None:
        raise NoAnswer("The kernel did not answer within 10 s.")

    kernel.set_timeouts = silent  # type: ignore[method-assign]
    status, _, problem = run("apply", text=WITH_SETTINGS)
    assert status == 1 and "Whether it was done is not known" in problem
    assert kernel.read_settings().daemons


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (NoAnswer("x"), "gave no answer in time. Apply again"),
        (HalfRead("It was cut."), "could not be read whole: It was cut. Find out what else"),
        (KernelRefused(errno.EBUSY), "was busy and did not read the table of this machine. Apply again"),
        (KernelError("Too many open files."), "could not talk to its kernel. Too many open files. Look"),
    ],
    ids=["silence", "half", "busy", "no socket"],
)
def test_a_kernel_that_cannot_be_read_is_told_with_the_remedy(
    run: Run, kernel: MemoryKernel, fault: KernelError, words: str
) -> None:
    kernel.faults = Faults(silent=fault)  # type: ignore[arg-type]
    for command in ("save", "show"):
        status, output, problem = run(command)
        assert (status, output) == (1, "") and words in problem


def test_settings_wait_for_a_table_that_was_done(run: Run, kernel: MemoryKernel) -> None:
    kernel.schedulers = frozenset({"wlc"})
    status, _, said = run("apply", text=WITH_SETTINGS)
    assert status == 1 and "Timeouts and sync daemons were left alone" in said
    assert kernel.read_settings() == MemoryKernel().read_settings()


def test_all_of_a_director_is_saved_and_restored(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=WITH_SETTINGS)
    status, saved, _ = run("save", "--all")
    assert (
        status == 0 and saved.endswith(TEXT) and saved.startswith("--set 600 120 60\n--start-daemon master")
    )
    before = kernel.read_settings()
    kernel.stop_daemon(SyncRole.MASTER)
    kernel.set_timeouts(DEFAULT_TIMEOUTS)
    assert run("restore", text=saved)[0] == 0 and kernel.read_settings() == before
    assert run("save")[1] == TEXT
    status, _, said = run("save", "--all", "--format", "yaml")
    assert status == 1 and "as text of ipvsadm alone" in said


def test_counters_of_one_service_or_all_are_zeroed(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=TEXT)
    assert run("zero") == run("zero", "-t", "192.0.2.1:80") == (0, "", "")
    status, _, said = run("zero", "-t", "192.0.2.9:80")
    assert status == 1 and "it is not in the kernel" in said
    status, _, said = run("zero", "-t", "nonsense")
    assert status == 1 and said


def test_an_empty_connection_table_is_said_to_be_empty(run: Run) -> None:
    assert run("connections") == (0, "No entries.\n", "")
    assert json.loads(run("connections", "--json")[1])["counts"] == []
    assert run("connections", "--list", "5") == (0, "", "")


def test_a_stand_in_has_no_switches_to_set(run: Run) -> None:
    status, _, said = run("sysctl", "expire_nodest_conn", "1")
    assert status == 1 and "keeps its table in memory" in said


CONF = """virtual_server {address} 80 {{
    protocol TCP
    lvs_sched rr
    lvs_method NAT
    real_server 10.0.0.1 80 {{
    }}
    {more}
}}
"""
ONE_CONF = CONF.format(address="192.0.2.1", more="real_server 10.0.0.2 80 {\n    }")
OTHER_CONF = CONF.format(address="192.0.2.2", more="")
OTHER = service(2, backend(1))


def test_what_a_file_includes_is_read_relative_to_its_own_folder(
    run: Run, kernel: MemoryKernel, tmp_path: Path
) -> None:
    (tmp_path / "conf.d" / "more").mkdir(parents=True)
    (tmp_path / "k.conf").write_text(f"include conf.d/*.conf\n{ONE_CONF}")
    (tmp_path / "conf.d" / "a.conf").write_text("include more/b.conf\n")
    (tmp_path / "conf.d" / "more" / "b.conf").write_text(OTHER_CONF)
    assert run("apply", "--exact", str(tmp_path / "k.conf"))[0] == 0
    assert kernel.read().table == table(WEB, OTHER)
    assert run("plan", "--exact", str(tmp_path / "k.conf")) == (0, "The kernel holds this already.\n", "")


@pytest.mark.parametrize("gap", ["include gone.conf", "include gone/*.conf", "@main include x.conf"])
def test_nothing_is_removed_because_a_file_was_not_read_whole(
    run: Run, kernel: MemoryKernel, tmp_path: Path, gap: str
) -> None:
    run("restore", text=ONE_CONF + OTHER_CONF)
    before = kernel.read().table
    (tmp_path / "k.conf").write_text(f"{gap}\n{ONE_CONF}")
    for verb in ("apply", "plan"):
        status, _, said = run(verb, "--exact", str(tmp_path / "k.conf"))
        assert status == 2 and "leave out --exact.\nline 1: lost:" in said
    assert kernel.read().table == before == table(WEB, OTHER)
    # Without --exact nothing goes, so the rest is done.
    assert run("apply", str(tmp_path / "k.conf"))[0] == 0


def test_an_include_in_a_text_without_a_folder_is_not_there(run: Run, kernel: MemoryKernel) -> None:
    status, _, said = run("apply", "--exact", text=f"include k.conf\n{ONE_CONF}")
    assert status == 2 and "is not here" in said and kernel.writes == 0


def test_a_backend_whose_line_was_not_read_is_not_removed(run: Run, kernel: MemoryKernel) -> None:
    run("restore", text=ONE_CONF)
    for verb in ("apply", "restore", "plan"):
        status, _, said = run(verb, text=ONE_CONF.replace("10.0.0.2", "web2.example"))
        assert status == 2 and "a host's name" in said
    assert kernel.read().table == table(WEB)


def test_a_line_that_names_no_service_does_not_stand_against_exact(run: Run, kernel: MemoryKernel) -> None:
    assert run("apply", "--exact", text=f"vrrp_instance x {{\n}}\n{ONE_CONF}")[0] == 0
    assert kernel.read().table == table(WEB)


CHECKED = ONE_CONF.replace(
    "real_server 10.0.0.1 80 {",
    "sorry_server 10.0.0.9 80\n real_server 10.0.0.1 80 {\n"
    " TCP_CHECK {\n }\n HTTP_GET {\n url {\n path /\n }\n }",
)
LDIRECTORD = """virtual = 192.0.2.1:80
    real = 10.0.0.1:80 masq
    real = 10.0.0.2:80 masq
    {}
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CHECKED, "2 health checks and 1 sorry server are not part of a table: import the file in the panel"),
        (ONE_CONF, ""),
        (LDIRECTORD.format("checktype = connect"), "2 health checks are not part of a table: import the"),
        (LDIRECTORD.format("quiescent = yes\n    fallback = 10.0.0.9:80 masq"), "1 sorry server and 1 quies"),
        (
            ONE_CONF.replace("real_server", "sorry_server 10.0.0.9 80\n real_server", 1),
            "1 sorry server is not",
        ),
    ],
)
def test_what_no_table_holds_is_said_in_one_line(run: Run, text: str, sentence: str) -> None:
    status, said, problem = run("plan", "--json", text=text)
    notes = json.loads(said)["notes"]
    assert status == 3 and problem.splitlines() == notes
    assert sentence in notes[-1] if sentence else not notes
    for verb in ("apply", "restore"):
        _, said, problem = run(verb, "--json", text=text)
        assert json.loads(said)["notes"] == notes and all(note in problem for note in notes)
        assert run(verb, text=text)[2].count("part of a table") == bool(sentence)
