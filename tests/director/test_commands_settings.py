"""The command line beside the table: timeouts, sync daemons, switches, counters and connections."""

from __future__ import annotations

import errno
import json

import pytest

from cluster.director.kernel import HalfRead, KernelError, KernelRefused, NoAnswer
from cluster.director.kernel.memory import Faults, MemoryKernel
from cluster.ipvs.settings import DEFAULT_TIMEOUTS, SyncDaemon, SyncRole, Timeouts
from tests.director.command_line import TEXT, Run
from tests.director.command_line import kernel as kernel
from tests.director.command_line import run as run


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
