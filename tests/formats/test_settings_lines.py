"""Timeouts and sync daemons in texts of ipvsadm and keepalived: read beside the table, and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats import ipvsadm, keepalived_reader
from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.ipvsadm_settings import setting_lines
from cluster.ipvs.settings import LARGEST_MESSAGE, LONGEST_TIMEOUT_S, Settings, SyncDaemon, SyncRole, Timeouts

WEB = "-A -t 192.0.2.1:80 -s rr\n"
_seconds = st.integers(0, LONGEST_TIMEOUT_S)
_daemons = st.builds(
    SyncDaemon,
    st.just(SyncRole.MASTER),
    st.sampled_from(["lo", "eth0", "bond0.7"]),
    st.integers(0, 255),
    st.sampled_from(["", "224.0.0.81", "ff02::81"]),
    st.integers(0, 65535),
    st.integers(0, 255),
    st.integers(0, LARGEST_MESSAGE),
)


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("--set 900 120 300", Settings(Timeouts(900, 120, 300))),
        ("/sbin/ipvsadm --set 0 0 30  # udp", Settings(Timeouts(0, 0, 30))),
        (
            "--start-daemon master --mcast-interface eth1 --syncid 3",
            Settings(Timeouts(), (SyncDaemon(SyncRole.MASTER, "eth1", 3),)),
        ),
        (
            "--start-daemon=backup --mcast-interface=eth1 --sync-maxlen 1400 --mcast-group FF02::0:81"
            " --mcast-port 9000 --mcast-ttl=2",
            Settings(Timeouts(), (SyncDaemon(SyncRole.BACKUP, "eth1", 0, "ff02::81", 9000, 2, 1400),)),
        ),
    ],
)
def test_lines_about_the_whole_director_are_read_beside_the_table(line: str, settings: Settings) -> None:
    read = ipvsadm.parse(f"{line}\n{WEB}")
    assert (read.settings, read.notes, len(read.table)) == (settings, (), 1)
    assert read.mapped == {("", 1), ("", 2)}


def test_a_text_that_says_nothing_of_them_has_no_settings() -> None:
    assert ipvsadm.parse(WEB).settings is None
    assert keepalived_reader.parse("global_defs {\n router_id a\n}\n").settings is None


def test_later_timeouts_replace_earlier_ones_but_0_does_not() -> None:
    read = ipvsadm.parse("--set 900 120 300\n--set 0 60 0\n")
    assert read.settings == Settings(Timeouts(900, 60, 300)) and read.is_whole


def test_an_interface_that_is_not_named_is_that_of_ipvsadm() -> None:
    read = ipvsadm.parse("--start-daemon backup")
    assert read.settings and read.settings.daemons == (SyncDaemon(SyncRole.BACKUP, "eth0"),)
    assert [note.level for note in read.notes] == [Level.MAPPED]


def test_a_daemon_that_is_stopped_again_is_not_in_the_settings() -> None:
    start = "--start-daemon master --mcast-interface lo\n"
    read = ipvsadm.parse(f"{start}--stop-daemon master\n")
    assert read.settings == Settings(Timeouts()) and read.notes == ()


def test_stopping_what_the_text_did_not_start_is_lost() -> None:
    (note,) = ipvsadm.parse("--start-daemon master --mcast-interface lo\n--stop-daemon backup\n").notes
    assert (note.line, note.level) == (2, Level.LOST) and "on the director itself" in note.remedy


@pytest.mark.parametrize(
    "line",
    [
        "--set 1 2",
        "--set 1 2 x",
        "--set 1 2 3 4",
        "--set 1 2 3000000",
        "--start-daemon",
        "--start-daemon both --mcast-interface lo",
        "--start-daemon master --mcast-interface",
        "--start-daemon master --mcast-interface lo --syncid 256",
        "--start-daemon master --mcast-interface lo --syncid 1 --syncid 1",
        "--start-daemon master --mcast-interface a-name-too-long-for-it",
        "--start-daemon master --mcast-interface lo --mcast-group 10.0.0.1",
        "--start-daemon master --mcast-interface lo --mcast-ttl 0",
        "--start-daemon master --mcast-interface lo -t 192.0.2.1:80",
        "--stop-daemon",
    ],
)
def test_what_no_kernel_would_take_is_an_error(line: str) -> None:
    read = ipvsadm.parse(f"{WEB}{line}")
    assert [(note.line, note.level) for note in read.notes] == [(2, Level.ERROR)] and read.settings is None
    assert read.notes[0].text.endswith(".") and read.notes[0].remedy.endswith(".")


def test_a_second_daemon_of_a_role_is_an_error() -> None:
    line = "--start-daemon master --mcast-interface lo\n"
    assert [note.line for note in ipvsadm.parse(line + line).errors] == [2]


@given(_seconds, _seconds, _seconds, st.lists(_daemons, max_size=1))
def test_what_is_written_is_read_back(tcp: int, fin: int, udp: int, daemons: list[SyncDaemon]) -> None:
    settings = Settings(Timeouts(tcp, fin, udp), tuple(daemons))
    read = ipvsadm.parse("\n".join(setting_lines(settings)))
    assert (read.settings, read.notes) == (settings, ())


def _global(*lines: str) -> str:
    return "global_defs {\n" + "".join(f" {line}\n" for line in lines) + "}\n"


def test_keepalived_runs_both_daemons_where_no_vrrp_instance_is_named() -> None:
    text = _global(
        "lvs_timeouts tcp 600 udp 30", "lvs_sync_daemon lo id 7 maxlen 1400 port 9000 ttl 2 group 224.0.0.82"
    )
    read = keepalived_reader.parse(text)
    fields = ("lo", 7, "224.0.0.82", 9000, 2, 1400)
    both = (SyncDaemon(SyncRole.MASTER, *fields), SyncDaemon(SyncRole.BACKUP, *fields))
    assert read.settings == Settings(Timeouts(600, 0, 30), both) and read.notes == ()


@pytest.mark.parametrize("line", ["lvs_sync_daemon eth0 V1", "lvs_sync_daemon eth0 inst V1 id 3"])
def test_a_daemon_that_follows_a_vrrp_instance_is_lost(line: str) -> None:
    read = keepalived_reader.parse(_global(line))
    assert [(note.line, note.level) for note in read.notes] == [(2, Level.LOST)]
    assert "V1" in read.notes[0].text and read.settings is None


@pytest.mark.parametrize(
    "line",
    ["lvs_timeouts", "lvs_timeouts tcp x", "lvs_timeouts tcp", "lvs_timeouts sctp 3", "lvs_sync_daemon"]
    + ["lvs_sync_daemon lo id 256", "lvs_sync_daemon lo id 1 group 10.0.0.1", "lvs_sync_daemon lo id 1 x 2"],
)
def test_what_keepalived_would_ignore_of_them_is_an_error(line: str) -> None:
    read = keepalived_reader.parse(_global(line))
    assert [(note.line, note.level) for note in read.notes] == [(2, Level.ERROR)] and read.settings is None


def test_a_second_sync_daemon_of_keepalived_is_an_error() -> None:
    read = keepalived_reader.parse(_global("lvs_sync_daemon lo", "lvs_sync_daemon eth0"))
    assert [note.line for note in read.errors] == [3] and read.settings
    assert {daemon.interface for daemon in read.settings.daemons} == {"lo"}


def test_the_rest_of_global_defs_is_still_lost() -> None:
    read = keepalived_reader.parse(_global("router_id a", "lvs_timeouts udp 30"))
    assert [(note.line, note.level) for note in read.notes] == [(1, Level.LOST)]
    assert read.settings == Settings(Timeouts(0, 0, 30)) and ("", 3) in read.mapped
