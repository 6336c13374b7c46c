"""Starting a worker: its settings, its machine, and what it must never load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.director import config as settings
from cluster.director import host, worker
from cluster.director.config import Config, ConfigError
from cluster.director.kernel import NoAnswer
from cluster.director.kernel.memory import Faults, MemoryKernel
from cluster.director.lock import locked
from cluster.wire.envelope import SigningKey

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, **changes: Any) -> Path:
    good = {
        "director": "director1",
        "broker": "redis://127.0.0.1:1/0",
        "state_dir": str(tmp_path / "state"),
        "panel_public_key": SigningKey(b"p" * 32).public,
        "kernel": "memory",
    }
    values = {name: value for name, value in (good | changes).items() if value is not None}
    path = tmp_path / "director.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"director": None}, "The setting “director” is missing."),
        ({"colour": "red"}, "The setting “colour” is not known."),
        ({"broker": 7}, "The setting “broker” must be text."),
        ({"broker": "amqp://x"}, "The setting “broker” must begin with one of"),
        ({"director": "a b"}, "The setting “director” must be"),
        ({"state_dir": "state"}, "The setting “state_dir” must be a path from the root."),
        ({"panel_public_key": "abc"}, "The setting “panel_public_key” must be the 44 letters"),
        ({"rehearsal": "maybe"}, "The setting “rehearsal” must be on, off, or the path"),
        ({"kernel": "solaris"}, "The setting “kernel” must be one of netlink, memory."),
    ],
)
def test_a_wrong_setting_is_named_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load(written(tmp_path, **changes))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_settings_that_are_no_object_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "director.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        settings.load(path)


def test_a_missing_file_is_said_and_the_program_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.director", "worker", "--config", str(tmp_path / "none.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "cannot be read: No such file" in done.stderr


def test_the_key_is_made_once_and_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    config = settings.load(written(tmp_path))
    first, second = config.signing_key(), config.signing_key()
    assert first.public == second.public
    assert (config.state_dir / "director.key").stat().st_mode & 0o777 == 0o400
    assert config.state_dir.stat().st_mode & 0o777 == 0o700


def test_a_second_worker_of_the_same_folder_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings.load(written(tmp_path))
    config.signing_key()
    monkeypatch.setattr(worker, "OTHER_WORKER_ENDS_WITHIN_S", 0.0)
    with (
        locked(config.state_dir / "worker.lock", within_s=0),
        pytest.raises(ConfigError, match="Another worker uses"),
    ):
        worker.work(config)


def test_a_director_loads_no_part_of_the_panel_even_with_its_settings_in_the_environment(
    tmp_path: Path,
) -> None:
    code = """
import sys, runpy, time
sys.argv = ["cluster.director", "fingerprint", "--config", sys.argv[1]]
try:
    runpy.run_module("cluster.director", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
from pathlib import Path
from cluster.director import config
from cluster.director.aim import Aim
from cluster.director.health.child import CheckingProcess
from cluster.director.kernel.choice import make_kernel
from cluster.director.app import make_app
from cluster.director.apply import Director
from cluster.director.journal import Journal, Sequence
from cluster.director.reports import Reporter
c = config.load(Path(sys.argv[3]))
r = Reporter(director=c.director, key=c.signing_key(), sequence=Sequence(c.state_dir), state_dir=c.state_dir)
aim = Aim(c.state_dir, clock=time.time)
app = make_app(Director(c, make_kernel(c), Journal(c.state_dir), r, CheckingProcess(scripts=c.scripts), aim))
app.finalize()
app.loader.import_default_modules()
app.Worker(pool="solo")
for name in ("django.db", "django.conf", "django.apps", "cluster.models"):
    assert name not in sys.modules, name
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(written(tmp_path))],
        cwd=ROOT,
        env=dict(os.environ, DJANGO_SETTINGS_MODULE="lvsadmin.settings"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SHA256:")


@pytest.fixture
def machine(tmp_path: Path) -> Config:
    """A machine with a kernel tree of its own and a modprobe that notes what it was asked."""
    tree = tmp_path / "modules" / os.uname().release
    tree.mkdir(parents=True)
    (tree / "modules.dep").write_text(
        "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/net/nf_conntrack.ko.xz\n"
        "kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz\n"
        "kernel/net/netfilter/ipvs/ip_vs_ftp.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz\n"
        "kernel/net/netfilter/ipvs/ip_vs_pe_sip.ko:\n"
        "kernel/net/netfilter/xt_ipvs.ko: kernel/net/netfilter/ipvs/ip_vs.ko\n"
    )
    (tree / "modules.builtin").write_text("kernel/net/netfilter/ipvs/ip_vs_wlc.ko\nkernel/fs/ext4.ko\n")
    modprobe = tmp_path / "modprobe"
    modprobe.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    modprobe.chmod(0o755)
    path = written(tmp_path, modprobe=str(modprobe), modules=str(tmp_path / "modules"))
    return settings.load(path)


def test_the_modules_are_those_that_this_kernel_lists(machine: Config) -> None:
    found = host.modules(machine)
    assert found["ip_vs_rr"] == "loadable" and found["ip_vs_wlc"] == "loaded"
    assert "xt_ipvs" not in found


def test_facts_of_a_stand_in_say_so(machine: Config) -> None:
    said = host.facts(machine, MemoryKernel())
    assert said["stand_in"] is True and said["ipvs"] == "" and "wlc" in said["schedulers"]
    assert said["settings"]["timeouts"] == {"tcp_s": 900, "tcp_fin_s": 120, "udp_s": 300}
    assert said["settings"]["sysctls"] == {}


def test_facts_of_a_silent_kernel_have_no_settings(machine: Config) -> None:
    kernel = MemoryKernel()
    kernel.faults = Faults(silent=NoAnswer("The kernel did not answer within 10 s."))
    assert host.facts(machine, kernel)["settings"] == {}


def test_a_machine_without_ipvs_says_that_it_is_missing(tmp_path: Path) -> None:
    config = settings.load(written(tmp_path, modules=str(tmp_path / "none")))
    assert "ip_vs" in host.modules(config)


def test_a_module_is_loaded_by_name_alone(machine: Config, tmp_path: Path) -> None:
    assert host.load_module(machine, "ip_vs_rr") == ""
    assert (tmp_path / "asked").read_text() == "-- ip_vs_rr\n"


@pytest.mark.parametrize(
    "name", ["nf_tables", "ip_vs rr", "ip_vs;reboot", "-r", "../ip_vs", "ip_vs_", "IP_VS", "ip_vs_nosuch", ""]
)
def test_nothing_else_is_ever_handed_to_modprobe(machine: Config, tmp_path: Path, name: str) -> None:
    assert host.load_module(machine, name).endswith(".")
    assert not (tmp_path / "asked").exists()


def test_a_module_that_does_not_load_is_said_in_its_own_words(machine: Config) -> None:
    Path(machine.modprobe).write_text("#!/bin/sh\necho 'modprobe: FATAL: nope' >&2\nexit 1\n")
    assert host.load_module(machine, "ip_vs_rr") == "modprobe could not load ip_vs_rr: modprobe: FATAL: nope."
