"""The command line on a real kernel, with ipvsadm as the witness."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.director.kernel.netlink import NetlinkKernel

ROOT = Path(__file__).parents[2]
TEXT = """-A -t 192.0.2.1:80 -s wrr -p 300
-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 50
-a -t 192.0.2.1:80 -r 10.0.0.2:80 -g -w 1
-A -f 7 -6 -s mh -b mh-fallback
"""

pytestmark = pytest.mark.kernel


def run(*arguments: str, text: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.director", *arguments],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def ipvsadm(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["ipvsadm", *arguments], input=text, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def test_ipvsadm_sees_what_apply_did_and_save_has_what_it_forgets(netlink: NetlinkKernel) -> None:
    status, said, problem = run("apply", text=TEXT)
    assert status == 0 and "done and read back" in said, problem
    witnessed = ipvsadm("-Sn")
    assert "-A -t 192.0.2.1:80 -s wrr -p 300" in witnessed
    assert "-r 10.0.0.1:8080 -m -w 3" in witnessed and "-x" not in witnessed
    saved = run("save")[1]
    assert "-x 100 -y 50" in saved
    ipvsadm("-C")
    ipvsadm("-R", text=saved)
    assert run("plan", "--exact", text=TEXT)[0] == 0


def test_a_service_of_ipvsadm_stays_unless_the_text_is_to_be_exact(netlink: NetlinkKernel) -> None:
    ipvsadm("-A", "-u", "192.0.2.9:53", "-s", "rr")
    assert run("apply", text=TEXT)[0] == 0
    assert "192.0.2.9:53" in ipvsadm("-Sn")
    assert run("apply", "--exact", text=TEXT)[0] == 0
    assert "192.0.2.9:53" not in ipvsadm("-Sn")


def test_a_refusal_is_found_in_the_rehearsal(netlink: NetlinkKernel) -> None:
    run("apply", text=TEXT)
    before = ipvsadm("-Sn")
    # Rules would find it first; a text of another machine may still name a scheduler that is missing here.
    twos = TEXT.replace("-s wrr", "-s twos") + "-A -t 192.0.2.7:80 -s rr\n"
    status, _, said = run("apply", text=twos)
    if status == 0:
        pytest.fail("This kernel has the scheduler twos: choose another that it lacks.")
    assert status == 1 and "In a rehearsal" in said and "no such scheduler" in said
    assert ipvsadm("-Sn") == before


def test_settings_reach_the_kernel(netlink: NetlinkKernel) -> None:
    assert run("timeouts", "600", "0", "60") == (0, "", "")
    assert "600 120 60" in ipvsadm("-Ln", "--timeout")
    assert run("sysctl", "expire_nodest_conn", "1")[0] == 0
    assert Path("/proc/sys/net/ipv4/vs/expire_nodest_conn").read_text().strip() == "1"
    said = run("settings")[1]
    assert "* expire_nodest_conn = 1" in said and "timeout udp: 60 s" in said
    assert run("sysctl", "expire_nodest_conn", "9")[0] == 1
    assert json.loads(run("settings", "--json")[1])["sysctls"]["expire_nodest_conn"] == "1"


def test_a_text_with_settings_reaches_the_kernel_and_ipvsadm_takes_all_that_is_saved(
    netlink: NetlinkKernel,
) -> None:
    settings = "--set 600 0 60\n--start-daemon backup --mcast-interface lo --syncid 7 --mcast-ttl 3\n"
    status, said, problem = run("apply", text=settings + TEXT)
    assert status == 0 and "Start the backup sync daemon on lo with id 7." in said, problem
    timeouts, daemons = ipvsadm("-Ln", "--timeout"), ipvsadm("-Ln", "--daemon")
    assert "600 120 60" in timeouts
    assert "backup sync daemon (mcast=lo, syncid=7," in daemons and "ttl=3" in daemons
    assert run("plan", text=settings + TEXT)[:2] == (0, "The kernel holds this already.\n")
    saved, table = run("save", "--all")[1], ipvsadm("-Sn")
    ipvsadm("-C")
    ipvsadm("--set", "900", "120", "300")
    assert run("stop-daemon", "backup")[0] == 0
    assert "daemon (" not in ipvsadm("-Ln", "--daemon")
    ipvsadm("-R", text=saved)
    assert (ipvsadm("-Ln", "--timeout"), ipvsadm("-Ln", "--daemon")) == (timeouts, daemons)
    assert sorted(ipvsadm("-Sn").splitlines()) == sorted(table.splitlines())
