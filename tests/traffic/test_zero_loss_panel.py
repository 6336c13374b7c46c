"""The whole product with its panel: operators drain, the panel dies, and users notice none of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from bench.zero_loss import backend_fault, played
from lab.host import Lab
from lab.stack import Stack
from tests.traffic.witness import saved

pytestmark = pytest.mark.traffic

VIP, REALS = "192.168.50.10", ("192.168.50.11", "192.168.50.12", "192.168.50.13")

_IMPORTS = """
import time
from django.db import transaction
from django.utils import timezone
from cluster import desired
from cluster.actions import backends, changes, clusters, directors, policies, problems, services
from bench.scene import CHECK
from cluster.audit import Actor
from cluster.ipvs.traffic.policy import Policy
from cluster.models import AuditEntry, Cluster, Director, Drain, Run
by = Actor("test")
"""
# The same actions as the pages call, and the wait for the directors.
_SET_UP = f"""{_IMPORTS}
Director.objects.update(cluster=None)
cluster = clusters.create_cluster(
    name="unnoticed", description="", switches={{"expire_nodest_conn": "1"}}, by=by
)
director = Director.objects.get(name="director1")
directors.enrol_director(director, cluster, seen_fingerprint=director.fingerprint, by=by)
for port, forwarding in ((80, "masquerade"), (8080, "direct")):
    service = services.add_service(cluster, services.ServiceFields("tcp", "{VIP}", port), by=by)
    policies.set_policy(
        service, Policy(check=CHECK), seen_version=service.version, is_administrator=True, by=by
    )
    for address in {REALS!r}:
        backends.add_backend(service, backends.BackendFields(address, port, forwarding), by=by)
traffic = desired.draft_traffic(cluster)
seen = desired.draft_print(desired.draft_table(cluster), traffic.policies, traffic.switches)
changes.apply(cluster, seen=seen, reason="unnoticed", by=by)
"""
_DRAIN = (
    _IMPORTS
    + """
with transaction.atomic():
    cluster = problems.lock_cluster(Cluster.objects.get(name="unnoticed"))
    Drain.objects.create(
        cluster=cluster, targets=[{{"address": "{address}"}}], begins_at=timezone.now(), author_name="test"
    )
    changes.carry_out(cluster, reason="drain", by=by)
"""
)
_UNDRAIN = (
    _IMPORTS
    + """
with transaction.atomic():
    cluster = problems.lock_cluster(Cluster.objects.get(name="unnoticed"))
    Drain.objects.filter(cluster=cluster).update(ended_at=timezone.now())
    changes.carry_out(cluster, reason="undrain", by=by)
"""
)
_DOWN = (
    _IMPORTS
    + """
for entry in AuditEntry.objects.filter(action="traffic.down", actor="director director1"):
    print(entry.target, entry.reason)
"""
)


@pytest.fixture(scope="module")
def lab(stack: Stack) -> Lab:
    """Three backends behind both modes, with checks, as the panel applied them."""
    assert stack.lab is not None
    assert _switch(stack.lab, "0") == "0"
    stack.manage("shell", "-c", _SET_UP)
    _wait_until(lambda: _weights(stack.lab) == {address: {1} for address in REALS})
    _wait_until(lambda: _switch(stack.lab) == "1")
    return stack.lab


def _switch(lab: Lab | None, value: str = "") -> str:
    """expire_nodest_conn on the director; with a value, set by somebody at its command line."""
    assert lab is not None
    path = "/proc/sys/net/ipv4/vs/expire_nodest_conn"
    return lab.execute(
        "director1", ["sh", "-c", f"[ -z '{value}' ] || echo {value} > {path}; cat {path}"]
    ).stdout.strip()


def _weights(lab: Lab | None) -> dict[str, set[int]]:
    """What both services give each backend."""
    assert lab is not None
    found: dict[str, set[int]] = {}
    for words in (line.split() for line in saved(lab, "director1")):
        if words[0] == "-a":
            found.setdefault(words[4].split(":")[0], set()).add(int(words[-1]))
    return found


def _wait_until(is_true: Callable[[], bool], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def test_an_operator_drains_restarts_and_undrains_a_backend(lab: Lab, stack: Stack) -> None:
    with played(lab) as (scene, _):
        stack.manage("shell", "-c", _DRAIN.format(address=REALS[0]))
        _wait_until(lambda: _weights(lab)[REALS[0]] == {0})
        lab.real_server("stop", "real1")
        lab.real_server("start", "real1")
        stack.manage("shell", "-c", _UNDRAIN)
        _wait_until(lambda: _weights(lab)[REALS[0]] == {1})
        time.sleep(2)
    assert scene.failures == [] and scene.requests > 500, str(scene)


def test_panel_and_redis_are_away_and_a_dead_backend_is_taken_out_and_put_back(
    lab: Lab, stack: Stack
) -> None:
    stack.stop_web()
    stack.stop_panel_worker()
    stack.stop_beat()
    lab.stop_redis()
    try:
        with played(lab) as (scene, _):
            time.sleep(5)
        _, (found,) = backend_fault(lab, "kill -9", rounds=1)
    finally:
        lab.start_redis()
        stack.start_web()
        stack.start_panel_worker()
        stack.start_beat()
    assert scene.failures == [] and scene.requests > 500, str(scene)
    assert found.failed > 0 and found.late == 0
    _wait_until(lambda: f"{REALS[0]}:80 of " in stack.manage("shell", "-c", _DOWN))
