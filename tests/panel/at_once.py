"""Two people, or a person and a director, at the same moment: real transactions that wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from cluster.actions.problems import Rejected
from cluster.audit import Actor
from cluster.models import (
    AuditHead,
    Director,
    Run,
)

OTTO = Actor("otto")
TIMEOUT_S = 30.0
# SQLite lets only one write at a time, so these run in the stage `postgres` alone.
MARKS = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL: lab.run_tests postgres"),
]


class Other:
    """What somebody else does at the same time, on a connection of its own."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self._connected, self._ended = threading.Event(), threading.Event()
        self._result: Any = None
        self._pid = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                (self._pid,) = cursor.fetchone()
            self._connected.set()
            self._result = self._do()
        except Exception as problem:
            self._result = problem
        finally:
            connection.close()
            self._connected.set()
            self._ended.set()

    def until_it_waits(self) -> None:
        """Return when it waits for a lock of somebody's, or has ended without waiting."""
        assert self._connected.wait(TIMEOUT_S)
        while not self._ended.wait(0.01):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_blocking_pids(%s) <> '{}'", [self._pid])
                if cursor.fetchone()[0]:
                    return

    def outcome(self) -> Any:
        """What it returned, or the exception that it ended with."""
        self._thread.join(TIMEOUT_S)
        assert self._ended.is_set(), "it still waits"
        return self._result


@pytest.fixture(scope="module", autouse=True)
def the_log_can_be_emptied(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """After each of these tests Django empties every table, which the audit log refuses by its trigger."""
    alter = "ALTER TABLE cluster_auditentry {} TRIGGER audit_no_truncate"
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(alter.format("DISABLE"))
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(alter.format("ENABLE"))
        AuditHead.objects.get_or_create(pk=1)


@pytest.fixture(autouse=True)
def an_empty_log(the_log_can_be_emptied: None, db: None) -> None:
    AuditHead.objects.get_or_create(pk=1)


def refused(outcome: Any, text: str) -> str:
    """The field at fault of a Rejected that says this."""
    assert isinstance(outcome, Rejected), repr(outcome)
    assert text in str(outcome)
    return outcome.problems[0].field


def newest_run(director: Director) -> Run:
    run = Run.objects.filter(director=director).order_by("-pk").select_related("job__revision").first()
    assert run is not None
    return run
