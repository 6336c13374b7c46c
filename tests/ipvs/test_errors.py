"""Whatever the kernel answers, the operator reads sentences."""

from __future__ import annotations

import errno

import pytest

from cluster.ipvs.errors import explain, means_table_moved
from cluster.ipvs.plan import Operation
from cluster.ipvs.settings import SettingOperation

MEASURED = [
    errno.EEXIST,
    errno.ESRCH,
    errno.ENOENT,
    errno.EINVAL,
    errno.ERANGE,
    errno.EAFNOSUPPORT,
    errno.ENODEV,
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOPROTOOPT,
    4095,
]


@pytest.mark.parametrize("operation", [None, *Operation, *SettingOperation])
@pytest.mark.parametrize("code", MEASURED)
def test_every_errno_has_two_full_sentences_and_names_its_subject(
    code: int, operation: Operation | SettingOperation | None
) -> None:
    said = explain(code, operation, subject="service TCP 192.0.2.1:80")
    assert "ervice TCP 192.0.2.1:80" in said.happened
    for sentence in (said.happened, said.remedy):
        assert sentence[0].isupper() and sentence.endswith(".")
        assert "{" not in sentence and "errno" not in sentence
    assert said.detail.endswith(f"({code})")


def test_the_same_number_means_different_things_by_operation() -> None:
    scheduler = explain(errno.ENOENT, Operation.ADD_SERVICE, subject="service X").happened
    backend = explain(errno.ENOENT, Operation.SET_BACKEND, subject="backend X").happened
    module = explain(errno.ENOENT, None, subject="the table").happened
    assert "scheduler" in scheduler and "removed" in backend and "ip_vs" in module


def test_an_unknown_scheduler_is_no_reason_to_read_again() -> None:
    assert not means_table_moved(errno.ENOENT, Operation.ADD_SERVICE)
    assert means_table_moved(errno.ENOENT, Operation.SET_BACKEND)
    assert means_table_moved(errno.EEXIST, Operation.ADD_SERVICE)
    assert not means_table_moved(errno.EINVAL, Operation.ADD_BACKEND)
