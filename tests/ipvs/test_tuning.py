"""What may be written to a switch of the kernel, and what a reader is told of one."""

from __future__ import annotations

import pytest

from cluster.ipvs.tuning import KNOWN, Sysctl, are_rates_frozen, canonical_value, value_problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expire_nodest_conn", "1"),
        ("conn_reuse_mode", "3"),
        ("drop_entry", "3"),
        ("sync_ports", "64"),
        ("sync_threshold", "3\t50"),
        ("sync_threshold", "0 1"),
        ("sync_threshold", "3 0"),
        ("est_nice", "-20"),
        ("amemthresh", "2147483647"),
    ],
)
def test_good_values_have_no_problem(name: str, value: str) -> None:
    assert value_problem(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expire_nodest_conn", "9"),
        ("expire_nodest_conn", "-1"),
        ("expire_nodest_conn", "yes"),
        ("expire_nodest_conn", ""),
        ("expire_nodest_conn", "1 1"),
        ("expire_nodest_conn", "1_0"),
        ("expire_nodest_conn", "١"),
        ("sync_version", "2"),
        ("sync_ports", "3"),
        ("sync_ports", "128"),
        ("sync_threshold", "3"),
        ("sync_threshold", "3 3"),
        ("sync_threshold", "1 2 3"),
        ("amemthresh", "2147483648"),
        ("amemthresh", "9" * 5000),
        ("drop_entry", "--1"),
        ("what_is_this", "1"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(name: str, value: str) -> None:
    said = value_problem(name, value)
    assert name in said and said.endswith(".") and len(said) < 200


def test_every_known_default_is_a_value_that_may_be_written() -> None:
    for name, known in KNOWN.items():
        assert not known.default or value_problem(name, known.default) == ""
        assert known.meaning[0].isalnum() and known.meaning.endswith(".")


def test_only_a_known_and_changed_switch_is_marked() -> None:
    assert not Sysctl("expire_nodest_conn", "1").is_default
    assert not Sysctl("sync_threshold", "3 60").is_default
    assert Sysctl("expire_nodest_conn", "0").is_default
    assert Sysctl("sync_qlen_max", "3859").is_default
    assert Sysctl("what_is_this", "7").is_default
    assert Sysctl("expire_nodest_conn", None).is_default


def test_a_kernel_that_does_not_count_is_noticed() -> None:
    assert are_rates_frozen([Sysctl("conntrack", "0"), Sysctl("run_estimation", "0")])
    assert not are_rates_frozen([Sysctl("run_estimation", "1")])
    assert not are_rates_frozen([Sysctl("run_estimation", None)])
    assert not are_rates_frozen([])


def test_a_tab_between_numbers_is_no_difference() -> None:
    assert canonical_value("3\t50\n") == "3 50"
