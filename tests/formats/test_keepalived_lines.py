"""keepalived.conf's own language: includes, conditions and definitions, as keepalived 2.2.7 has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats import ipvsadm
from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.keepalived_lines import Brace, uncommented, words_of
from cluster.ipvs.formats.keepalived_reader import parse
from tests.formats.keepalived_program import complaints

SERVICE = """virtual_server {address} 80 {{
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 10.0.0.1 80 {{
    }}
}}
"""
ONE = SERVICE.format(address="192.0.2.1")


def _addresses(text: str, **ways: object) -> list[str]:
    read = parse(text, **ways)  # type: ignore[arg-type]
    assert not read.errors, read.errors
    return [service.key.address for service in read.table]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("  a b # c", "a b"),
        ("a!b", "a"),
        ('a "b # c" ! d', 'a "b # c"'),
        (r"a \# b", "a # b"),
        (r'a "\" # b" # c', r'a "\" # b"'),
        ("! whole", ""),
    ],
)
def test_comments_begin_anywhere_but_in_quotes(line: str, left: str) -> None:
    assert uncommented(line) == left


def test_braces_need_no_blanks_around_them() -> None:
    assert words_of('a{b "c {" }') == ["a", Brace.OPEN, "b", "c {", Brace.CLOSE]
    text = ONE.replace("\n", " ").replace("lvs_sched rr", "").replace("protocol TCP", "").replace("  ", " ")
    assert _addresses(text.replace("lvs_method NAT", "")) == ["192.0.2.1"]


def test_a_brace_may_stand_in_the_next_line(tmp_path: Path) -> None:
    text = ONE.replace(" {\n", "\n{\n")
    assert _addresses(text) == ["192.0.2.1"] and complaints(text, tmp_path) == []


# -- included files


def test_included_files_are_read_in_place_with_their_own_lines() -> None:
    files = {
        "conf.d/*.conf": [("conf.d/a.conf", SERVICE.format(address="192.0.2.2")), ("conf.d/b.conf", "bad\n")],
    }
    read = parse("include conf.d/*.conf\n" + ONE, include=lambda name: files[name])
    assert [service.key.address for service in read.table] == ["192.0.2.1", "192.0.2.2"]
    assert [(note.file, note.line, note.level) for note in read.notes] == [("conf.d/b.conf", 1, Level.ERROR)]
    assert ("conf.d/a.conf", 1) in read.mapped and ("", 1) in read.mapped


def test_a_relative_name_is_relative_to_its_file() -> None:
    asked = []

    def include(name: str) -> list[tuple[str, str]]:
        asked.append(name)
        return [("/etc/k/one.conf", "include two.conf\n")] if len(asked) == 1 else [("/etc/k/two.conf", ONE)]

    assert _addresses("include /etc/k/one.conf\n", include=include) == ["192.0.2.1"]
    assert asked == ["/etc/k/one.conf", "/etc/k/two.conf"]


def test_half_a_block_may_come_from_a_file() -> None:
    head, rest = ONE.split("    protocol")
    assert _addresses(head + "include x\n}\n", include=lambda _: [("x", "    protocol" + rest[:-2])]) == [
        "192.0.2.1"
    ]


def test_an_include_without_files_is_lost_and_a_missing_one_is_named() -> None:
    (note,) = parse("include x.conf\n" + ONE).notes
    assert note.level is Level.LOST and "in place of this line" in note.remedy
    (note,) = parse("includea x.conf\n" + ONE, include=lambda _: []).notes
    assert note.level is Level.LOST and "There is no file" in note.text
    (note,) = parse("include conf.d/*.conf\n" + ONE, include=lambda _: []).notes
    assert note.level is Level.MAPPED


def test_a_line_that_may_hide_a_service_is_told_from_others_and_does_not_drown() -> None:
    gaps = ("include x.conf", "@main include x.conf", "${_PWD}", ONE.replace("192.0.2.1", "web.example"))
    for gap in gaps:
        assert len(parse(f"{gap}\n{ONE}").gaps) == 1
    assert not parse(f"vrrp_instance x {{\n}}\n{ONE}").gaps
    many = "vrrp_instance x {\\\n}\\\n" * 50
    read = parse(f"$MANY= \\\n{many}include x.conf\n$MANY\n{ONE}")
    assert len(read.notes) == 22 and [note.may_hide for note in read.notes].count(True) == 1


def test_circles_and_floods_of_includes_end_with_a_note() -> None:
    (note,) = parse("include a\n" + ONE, include=lambda _: [("a", "include a\n")]).errors
    assert (note.file, note.line) == ("a", 1) and "includes itself" in note.text

    def more(name: str) -> list[tuple[str, str]]:
        return [(f"{name}{side}", f"include {name}{side}\n" * 2) for side in "xy"]

    read = parse("include a\n", include=more)
    assert read.errors and len(read.errors) < 600 and "too many included files" in read.errors[0].text


# -- conditions

CONDITIONAL = f"@main {ONE.splitlines()[0]}\n@^main {ONE.replace('.1 80', '.2 80').splitlines()[0]}\n"
CONDITIONAL += "\n".join(ONE.splitlines()[1:]) + "\n"


@pytest.mark.parametrize(("ids", "address"), [({"main"}, "192.0.2.1"), ({"spare"}, "192.0.2.2")])
def test_conditions_choose_the_lines_of_a_machine(ids: set[str], address: str, tmp_path: Path) -> None:
    assert _addresses(CONDITIONAL, config_ids=frozenset(ids)) == [address]
    assert complaints(CONDITIONAL, tmp_path, config_id=ids.pop()) == []


def test_a_condition_that_nobody_can_judge_is_lost() -> None:
    read = parse(ONE.replace("    protocol TCP", "    @main protocol TCP\n    @^main protocol UDP"))
    assert [(note.line, note.level) for note in read.notes if note.level is not Level.MAPPED] == [
        (4, Level.LOST),
        (5, Level.LOST),
    ]


# -- definitions


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("$WEB=192.0.2.1\n" + ONE.replace("192.0.2.1", "$WEB"), ["192.0.2.1"]),
        (
            "$A=192.0.${B}\n$B=0\n$B=2\n" + ONE.replace("192.0.2.1", "${A}.9"),
            ["192.0.2.9"],
        ),
        ("$N=rr\n@main $N=wrr\n" + ONE.replace("rr", "$N"), ["192.0.2.1"]),
        (
            "$VS= \\\nvirtual_server 192.0.2.${N} 80 { \\\n protocol TCP \\\n lvs_sched rr \\\n"
            " lvs_method NAT \\\n $R=1 \\\n $RS \\\n $R=2 \\\n $RS \\\n}\n"
            "$RS= \\\n real_server 10.0.0.${R} 80 { \\\n }\n"
            "$N=5\n$VS\n$N=6\n$VS\n",
            ["192.0.2.5", "192.0.2.6"],
        ),
        (
            "$VS= \\\nvirtual_server 192.0.2.${N} 80 { \\\n protocol TCP \\\n lvs_sched rr \\\n"
            " lvs_method NAT \\\n ~SEQ(R, 1, 2) real_server 10.0.0.${R} 80 { } \\\n}\n"
            "~SEQ(N, 0, 3, 9) $VS\n",
            ["192.0.2.0", "192.0.2.3", "192.0.2.6", "192.0.2.9"],
        ),
        (
            "~LST({A, B}, {2,1},{2,9}) " + ONE.replace("192.0.2.1", "192.0.${A}.${B}").replace("\n", " "),
            ["192.0.2.1", "192.0.2.9"],
        ),
    ],
)
def test_definitions_stand_for_their_values(text: str, addresses: list[str], tmp_path: Path) -> None:
    if not text.startswith("~LST"):
        assert complaints(text, tmp_path, config_id="main") == []
    text = text.replace(" lvs_sched rr     lvs_method NAT     protocol TCP ", " ")
    assert _addresses(text, config_ids=frozenset({"main"})) == addresses


def test_a_multi_line_definition_gives_every_service_its_backends() -> None:
    text = (
        "$RS= \\\n real_server 10.0.0.${R} 80 { \\\n weight 4 \\\n }\n"
        "virtual_server fwmark 1 {\n lvs_sched rr\n lvs_method NAT\n ~SEQ(R, 3) $RS\n}\n"
    )
    assert ipvsadm.save(parse(text).table)[1:] == [
        f"-a -f 1 -r 10.0.0.{number}:80 -m -w 4" for number in (1, 2, 3)
    ]


def test_what_only_a_running_keepalived_knows_is_lost() -> None:
    read = parse(ONE.replace("lvs_sched rr", 'quorum_up "${_PWD}/up.sh"'))
    assert [note.line for note in read.notes if note.level is Level.LOST] == [2]


@pytest.mark.parametrize(
    "text",
    [
        "$A=$A\n$A\n",
        "$A=${B}${B}\n$B=${A}${A}\nx ${A}\n",
        "$A=@main $A\n@main $A\n",
        "~SEQ(A, 1, 0, 9) x\n",
        "~SEQ(A, 1, 99999999) x\n",
        "~SEQ(A, x) y\n",
        "~LST(\n",
        "$A=" + "x" * 500 + "\n$B=$A $A $A\n$B\n",
    ],
)
def test_circles_and_floods_of_definitions_end_with_a_note(text: str) -> None:
    read = parse(text + ONE, config_ids=frozenset({"main"}))
    assert read.errors and len(read.table) == 1


def test_lines_that_breed_lines_stop_at_a_limit() -> None:
    text = "$A= \\\n ~SEQ(I, 1, 300) x ${I}\n$B= \\\n ~SEQ(J, 1, 300) $A\n~SEQ(K, 1, 300) $B\n"
    read = parse(text)
    assert len(read.errors) < 50 and "more to say" in read.errors[-1].text


@given(st.text(alphabet='ab"\\#!{} \t$@~', max_size=60))
def test_no_line_makes_the_words_fail(line: str) -> None:
    read = parse(line)
    assert all(note.line == 1 for note in read.notes)
