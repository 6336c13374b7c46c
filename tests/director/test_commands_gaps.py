"""The command line at texts that include others, or that no table holds as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.director.kernel.memory import MemoryKernel
from tests.director.command_line import WEB, Run
from tests.director.command_line import kernel as kernel
from tests.director.command_line import run as run
from tests.director.stage import backend, service, table

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
