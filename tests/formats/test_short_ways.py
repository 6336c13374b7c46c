"""The short ways of readers, for the lines that most of a large text is, say what the plain ways say."""

from __future__ import annotations

import re
from ipaddress import ip_address
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats import ipvsadm_reader, keepalived_lines, keepalived_reader
from cluster.ipvs.formats.fidelity import Parsed
from cluster.ipvs.formats.keepalived_lines import Said
from cluster.ipvs.state import canonical_address
from tests.formats.mutation import mutated
from tests.formats.test_fuzz import TEXTS
from tests.ipvs.tables import few

_NAMED = st.sampled_from(
    [
        "-t 192.0.2.1:80",
        "-u 192.0.2.1:80",
        "-t [2001:db8::1]:80",
        "-t 192.0.2.1",
        "-t 192.0.2.1:",
        "-t 192.0.2.1:99999",
        "-f 7",
        "-f 7 -6",
        "-f 0",
        "-f 999999999",
        "-t face:80",
        "-t 2001:DB8:0::1",
        "-t [2001:db8::1]",
        "-t ::",
        "-u 192.0.2.1:0",
    ]
)
_PLACE = st.sampled_from(
    [
        "10.0.0.1:80",
        "10.0.0.1:8080",
        "10.0.0.01:80",
        "10.0.0.256:80",
        "10.0.0:80",
        "10.0.0.1",
        "[fd00::1]:80",
        "[FD00:0::1]:80",
        "[10.0.0.1]:80",
        "[::ffff:10.0.0.1]:80",
        "[fd00:::1]:80",
        "10.0.0.1:65536",
        "10.0.0.1:99999",
        "10.0.0.1:0080",
    ]
)
_BACKEND = st.builds(
    "{} {} -r {} {} -w {}{}{}{}".format,
    st.sampled_from(["-a", "-a", "-a", "-e", "ipvsadm -a"]),
    _NAMED,
    _PLACE,
    st.sampled_from(["-m", "-g", "-i"]),
    st.sampled_from(["1", "0", "999999999", "2147483648", "-1", "x"]),
    st.sampled_from(["", "", " --tun-type ipip", " --tun-type gre"]),
    st.sampled_from(["", "", " -x 5", " -x 4294967295", " -x"]),
    st.sampled_from(["", "", " -y 3", " -y 3 # why", " -y 3\r", "  -y 3", "\\"]),
)
_SERVICE = st.builds(
    "{} {}{}".format, st.sampled_from(["-A", "-A", "-A", "-D", "-E"]), _NAMED, st.just(" -s rr")
)
_LINES = st.lists(_SERVICE | _BACKEND | _BACKEND | st.just("-C"), max_size=30).map("\n".join)
_OCTET = st.integers(0, 256).map(str) | st.sampled_from(["00", "01", "", "٣", "1 ", "0x1", "+1"])


def _plainly(text: str) -> Parsed:
    with patch.object(ipvsadm_reader, "_USUAL", re.compile("(?!)")):
        return ipvsadm_reader.parse(text)


def _the_long_way(text: str, config_ids: frozenset[str] | None) -> Parsed:
    def never(line: str) -> Said | None:
        return None

    with patch.object(keepalived_lines, "_plainly_said", never):
        return keepalived_reader.parse(text, config_ids=config_ids)


@few
@given(_LINES)
def test_usual_lines_of_ipvsadm_are_read_as_all_others(text: str) -> None:
    added = "-A -t 192.0.2.1:80 -s rr\n-A -f 7 -6 -s rr\n-A -t [2001:db8::1]:80\n" + text
    assert ipvsadm_reader.parse(text) == _plainly(text)
    assert ipvsadm_reader.parse(added) == _plainly(added)


@few
@given(st.sampled_from(TEXTS["ipvsadm"]), st.integers(0, 2**32))
def test_files_of_ipvsadm_with_mistakes_are_read_alike(text: str, seed: int) -> None:
    text = mutated(text, seed)
    assert ipvsadm_reader.parse(text) == _plainly(text)


def test_a_usual_line_is_read_the_short_way() -> None:
    text = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 1 -x 2 -y 1\n"
    with patch.object(ipvsadm_reader._Reader, "_backend", side_effect=AssertionError):
        assert len(ipvsadm_reader.parse(text).table.services[0].backends) == 1


@few
@given(
    st.sampled_from(TEXTS["keepalived"]), st.integers(0, 2**32), st.sampled_from([None, frozenset({"main"})])
)
def test_plain_lines_of_keepalived_are_read_as_all_others(
    text: str, seed: int, config_ids: frozenset[str] | None
) -> None:
    text = mutated(text, seed)
    assert keepalived_reader.parse(text, config_ids=config_ids) == _the_long_way(text, config_ids)


@given(
    st.text(st.sampled_from('a1 \t\r\x0b\x1c\x85\u2028{}{}#!"@~$\\'))
    | st.sampled_from(["include x", "includer x"])
)
def test_any_line_of_keepalived_has_the_same_words(line: str) -> None:
    short = keepalived_lines._plainly_said(line)
    if short is not None:
        bare = keepalived_lines.uncommented(line.removesuffix("\r"))
        assert list(short) == list(keepalived_lines._as_said(keepalived_lines.words_of(bare)))


@given(st.lists(_OCTET, min_size=3, max_size=5).map(".".join))
def test_an_address_is_what_the_library_says_it_is(text: str) -> None:
    try:
        expected = str(ip_address(text.strip()))
    except ValueError:
        expected = ""
    try:
        said = canonical_address(text)
    except ValueError:
        said = ""
    assert said == expected
