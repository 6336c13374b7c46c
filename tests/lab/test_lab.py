"""The lab itself: its network carries what the article describes, and nothing of it outlives it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import Lab, LabError, attach, up
from lab.checks import choose_kind
from lab.host import PROJECT
from lab.layout import HOST_KERNEL, NODES, USER_MODE_LINUX, Settings

REMOTE_UP = (
    "import sys, time, lab; x = lab.up(sys.argv[1], panel_public_key=None, attached=True); time.sleep(60)"
)


def namespace_of(lab: Lab) -> str:
    """The pid namespace of a lab's processes; process 1 of the lab is the second one recorded."""
    return os.readlink(f"/proc/{lab.processes[1][0]}/ns/pid")


def processes_in(namespace: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/pid") == namespace:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def wait_until_empty(namespace: str) -> list[str]:
    deadline = time.monotonic() + 10
    while processes_in(namespace) and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes_in(namespace)


def test_what_the_processes_are_told_survives_the_command_line() -> None:
    settings = Settings(USER_MODE_LINUX, "/a b", "/project", "/python", "key", True, 1, 3)
    assert Settings.loads(settings.dumps()) == settings


def test_it_says_that_no_lab_is_up(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Start one with"):
        attach(tmp_path)


def test_it_refuses_an_unknown_kind_of_room() -> None:
    with pytest.raises(LabError, match="user mode linux"):
        choose_kind("hypervisor")


@pytest.mark.traffic
def test_it_leaves_a_folder_with_other_things_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    before = tmp_path.stat().st_mode
    with pytest.raises(LabError, match="folder of its own"):
        up(tmp_path, panel_public_key=None)
    assert tmp_path.stat().st_mode == before


@pytest.mark.traffic
def test_every_node_runs_commands(room: Lab) -> None:
    for node in ("hub", *NODES):
        done = room.execute(node, ["sh", "-c", "cat; echo problem >&2; exit 3"], input="héllo\n")
        assert (done.returncode, done.stdout, done.stderr) == (3, "héllo\n", "problem\n")


@pytest.mark.traffic
def test_it_carries_megabytes_and_streams_lines(room: Lab) -> None:
    lines: list[str] = []
    done = room.execute("real1", ["seq", "300000"], on_line=lines.append)
    assert len(done.stdout) > 1_900_000
    assert done.stdout.splitlines() == lines == [str(number) for number in range(1, 300_001)]


@pytest.mark.traffic
def test_a_command_out_of_time_is_killed_with_its_children(room: Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        room.execute("client", ["sh", "-c", "echo begun; sleep 4321 & sleep 4321"], timeout_s=1)
    assert caught.value.output == "begun\n"
    assert room.execute("hub", ["pgrep", "-f", "^sleep 4321"]).stdout == ""


@pytest.mark.traffic
def test_the_project_is_readable_but_not_writable_in_there(room: Lab) -> None:
    script = "import cluster, pathlib; pathlib.Path('written').write_text('')"
    done = room.execute("director1", [room.python, "-c", script])
    assert "Read-only file system" in done.stderr
    assert not (PROJECT / "written").exists()


@pytest.mark.traffic
def test_a_scheduler_can_be_loaded_by_hand_and_by_the_kernel(room: Lab) -> None:
    assert room.execute("director2", ["modprobe", "ip_vs_lc"]).returncode == 0
    service = ["-u", "192.168.50.20:999"]
    assert room.execute("director2", ["ipvsadm", "-A", *service, "-s", "sed"]).returncode == 0
    room.execute("director2", ["ipvsadm", "-D", *service])
    modules = room.execute("hub", ["lsmod"]).stdout
    assert "ip_vs_lc" in modules and "ip_vs_sed" in modules


@pytest.mark.traffic
def test_redis_stops_and_starts_while_commands_still_work(room: Lab) -> None:
    room.stop_redis()
    assert room.redis_pid() is None and not answers_ping(room)
    assert room.execute("director1", ["true"]).returncode == 0
    room.start_redis()
    assert answers_ping(room)


def answers_ping(lab: Lab) -> bool:
    done = subprocess.run(["redis-cli", "-s", lab.redis_socket, "ping"], capture_output=True, text=True)
    return done.stdout == "PONG\n"


@pytest.mark.traffic
def test_down_leaves_nothing(tmp_path: Path) -> None:
    lab = up(tmp_path / "lab", panel_public_key=None)
    namespace = namespace_of(lab)
    assert len(processes_in(namespace)) > 3
    with pytest.raises(LabError, match="already up"):
        up(tmp_path / "lab", panel_public_key=None)
    attach(tmp_path / "lab").down()
    assert processes_in(namespace) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    lab.down()
    assert sorted(entry.name for entry in (tmp_path / "lab").iterdir()) == [
        "directors",
        "lab.log",
        "lock",
        "redis",
    ]


@pytest.mark.traffic
def test_a_killed_launcher_takes_the_lab_with_it(tmp_path: Path) -> None:
    lab = up(tmp_path, panel_public_key=None)
    namespace = namespace_of(lab)
    os.kill(lab.processes[0][0], 9)
    assert wait_until_empty(namespace) == []
    lab.down()


@pytest.mark.traffic
def test_an_attached_lab_ends_with_its_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", REMOTE_UP, str(tmp_path)], stdout=subprocess.PIPE, cwd=PROJECT
    )
    assert owner.stdout
    while b"ready" not in owner.stdout.readline():
        assert owner.poll() is None
    namespace = namespace_of(attach(tmp_path))
    owner.kill()
    owner.wait()
    assert wait_until_empty(namespace) == []


@pytest.mark.traffic
def test_the_other_kind_of_room_works_too(room: Lab) -> None:
    """A guest's kernel has IPVS, so that a lab inside it is one of the kind `host kernel`."""
    if room.kind != USER_MODE_LINUX:
        pytest.skip("this machine's kernel has IPVS: the other tests have just proven it")

    def lab(*arguments: str) -> str:
        done = room.execute("hub", [room.python, "-m", "lab", *arguments])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    folder = "--dir=/tmp/inner"
    assert HOST_KERNEL in lab("up", folder)
    rules = "-A -t 192.168.50.10:80 -s rr\n-a -t 192.168.50.10:80 -r 192.168.50.12 -m\n"
    lab("exec", folder, "director1", "--", "sh", "-c", f"echo '{rules}' | ipvsadm -R")
    assert lab("exec", folder, "client", "--", "curl", "-s", "-m5", "192.168.50.10") == "real2\n"
    lab("down", folder)
    assert room.execute("hub", ["pgrep", "-f", "lab.hub"]).stdout == ""
