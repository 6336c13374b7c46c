"""People, a cluster with a service, and a director that signs what it says."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from kombu.exceptions import OperationalError

from cluster import jobs, live, reports
from cluster.actions import backends, changes, clusters, directors, services
from cluster.audit import Actor
from cluster.desired import draft_policies, draft_print, draft_table
from cluster.models import Backend, Cluster, Director, Job, Revision, Role, RoleBinding, Run, VirtualService
from cluster.seen import mark_of
from cluster.wire.envelope import SigningKey, _signed_bytes
from cluster.wire.messages import Event, Frame, Report, frame_key

ANN = Actor("ann", "192.0.2.1", "request-1")


class FakeRedis:
    """Keeps what frames were set, and how long ago; `is_up = False` makes every call fail as a dead Redis
    does. It is its own pipeline."""

    def __init__(self) -> None:
        self.is_up = True
        self.values: dict[str, str] = {}
        self.ages_s: dict[str, float] = {}
        self.asked: list[Any] = []

    def ping(self) -> bool:
        self._refuse_when_down()
        return True

    def pipeline(self, *, transaction: bool) -> FakeRedis:
        assert transaction
        self.asked = []
        return self

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked = []

    def mget(self, keys: list[str]) -> None:
        self.asked.append([self.values.get(key) for key in keys])

    def pttl(self, key: str) -> None:
        left_s = live.FRAME_LIFETIME_S - self.ages_s.get(key, 0.0)
        self.asked.append(int(left_s * 1000) if key in self.values else -2)

    def execute(self) -> list[Any]:
        self._refuse_when_down()
        return self.asked

    def _refuse_when_down(self) -> None:
        if not self.is_up:
            raise redis_py.ConnectionError("Connection refused")


class TalkingDirector:
    """A director's mouth: it signs hellos, reports and frames with its own key."""

    def __init__(self, name: str, redis: FakeRedis) -> None:
        self.name, self.redis = name, redis
        self.key = SigningKey(os.urandom(32))
        self.sequence = 0

    def hello(self, **facts: Any) -> None:
        known = {"kernel": "6.1.0", "ipvs": "1.2.1", "goes_back": True}
        payload = {"public_key": self.key.public, "facts": known | facts}
        reports.take(self.signed(Event.HELLO, payload=payload))

    def signed(self, event: Event, run: Run | None = None, **changes: Any) -> dict[str, str]:
        self.sequence += 1
        values: dict[str, Any] = {
            "event": event,
            "run": str(run.uuid) if run else "",
            "director": self.name,
            "cluster": str(run.job.cluster.uuid) if run else "",
            "epoch": run.director.epoch if run and run.director else 0,
            "revision": run.job.revision.number if run and run.job.revision else 0,
            "sequence": self.sequence,
            "at": time.time(),
            "payload": {},
        }
        return self.key.sign("report", Report(**(values | changes)).to_body())

    def genuine(self, kind: str, body: dict[str, Any]) -> dict[str, str]:
        """Signed by its key but not written by our code: with NaN, lone surrogates, whatever JSON can say."""
        text = json.dumps(body)
        signature = self.key._private.sign(_signed_bytes(kind, text))
        return self.key.sign(kind, {}) | {"body": text, "signature": base64.b64encode(signature).decode()}

    def finish(self, run: Run, outcome: str = "applied", **said: Any) -> None:
        """Say that a run ended; by default as a kernel that now holds the revision."""
        payload = {"outcome": outcome, "text": f"{outcome}.", "remedy": "", "detail": "", "steps": []}
        if run.job.revision:
            table = run.job.revision.table
            owned = [
                {name: value for name, value in service.items() if name in ("protocol", "address", "port")}
                for service in table["services"]
            ]
            payload |= {"table": table, "owned": owned}
        reports.take(self.signed(Event.FINISHED, run, payload=payload | said))

    def frame(self, *, age_s: float = 0.0, clock_off_s: float = 0.0, **payload: Any) -> None:
        """Put a frame into Redis, `age_s` ago: by default of one that has its cluster's newest revision."""
        newest = Revision.objects.filter(cluster__directors__name=self.name).order_by("-number").first()
        said = {"services": [], "fingerprint": "", "revision": newest.number if newest else 0, "error": ""}
        said |= payload
        self.sequence += 1
        frame = Frame(self.name, "", self.sequence, time.time() - age_s + clock_off_s, 2.0, said)
        self.redis.values[frame_key(self.name)] = json.dumps(self.key.sign("frame", frame.to_body()))
        self.redis.ages_s[frame_key(self.name)] = age_s


@pytest.fixture(autouse=True)
def redis(monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    """What live.py reads; named a stand-in, because the real one is in the traffic tests."""
    fake = FakeRedis()
    monkeypatch.setattr(live, "client", lambda: fake)
    return fake


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch, redis: FakeRedis) -> list[dict[str, Any]]:
    """The orders that were published: name, args, queue."""
    orders: list[dict[str, Any]] = []

    def send_task(name: str, *, args: list[Any], queue: str, **_: Any) -> None:
        if not redis.is_up:
            raise OperationalError("Connection refused")
        orders.append({"name": name, "args": args, "queue": queue})

    monkeypatch.setattr(jobs.app, "send_task", send_task)
    return orders


@pytest.fixture(autouse=True)
def checkpoint_file(tmp_path: Path, settings: Any) -> Path:
    """Of the test's own: what is signed about one test's log speaks against the next one's."""
    settings.AUDIT_CHECKPOINT_FILE = tmp_path / "checkpoints.jsonl"
    return tmp_path / "checkpoints.jsonl"


@pytest.fixture(autouse=True)
def the_logs_lock_comes_last(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever any test does: after its audit entry an action, which is one transaction (here a savepoint in
    the test's own), writes and locks nothing else."""
    if "db" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("db")
    outside, recorded, late = len(connection.savepoint_ids), set(), []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        # None stands for a block without a savepoint of its own, of whatever transaction.
        inside = [found for found in connection.savepoint_ids[outside : outside + 1] if found]
        if sql.startswith(("INSERT", "UPDATE", "DELETE")) or " FOR " in sql:
            if "cluster_audithead" in sql:
                recorded.update(inside)
            elif "cluster_auditentry" not in sql and recorded.intersection(inside):
                late.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield
    assert not late, "An action locks this after the head of the audit log: see audit.record."


@pytest.fixture
def web(db: None) -> Cluster:
    return clusters.create_cluster(name="web", description="", by=ANN)


@pytest.fixture
def other(db: None) -> Cluster:
    """mallory's own cluster."""
    return clusters.create_cluster(name="other", description="", by=ANN)


@pytest.fixture
def service(web: Cluster) -> VirtualService:
    said = services.ServiceFields("tcp", "192.168.50.10", 80, name="shop")
    return services.add_service(web, said, by=ANN)


@pytest.fixture
def backend(service: VirtualService) -> Backend:
    return backends.add_backend(service, backends.BackendFields("192.168.50.11", 80), by=ANN)


@pytest.fixture
def talker(db: None, redis: FakeRedis) -> TalkingDirector:
    """director1, which has announced itself."""
    talker = TalkingDirector("director1", redis)
    modules = [{"name": "ip_vs", "state": "loaded"}, {"name": "ip_vs_sh", "state": "loadable"}]
    talker.hello(modules=modules, schedulers=["rr", "wrr", "sh"])
    return talker


@pytest.fixture
def director(web: Cluster, talker: TalkingDirector) -> Director:
    """director1, added to web and heard just now."""
    director = Director.objects.get(name="director1")
    directors.enrol_director(director, web, seen_fingerprint=director.fingerprint, by=ANN)
    talker.frame()
    director.refresh_from_db()
    return director


def apply_draft(cluster: Cluster, *, reason: str = "as reviewed", by: Actor = ANN) -> Job:
    fresh = Cluster.objects.get(pk=cluster.pk)
    seen = draft_print(draft_table(fresh), draft_policies(fresh))
    return changes.apply(cluster, seen=seen, reason=reason, by=by)


def remove(row: VirtualService | Backend, *, by: Actor = ANN) -> None:
    """As somebody does who looks at its page just now."""
    fresh = type(row)._default_manager.get(pk=row.pk)
    if isinstance(fresh, VirtualService):
        services.remove_service(fresh, seen=mark_of(fresh), by=by)
    else:
        backends.remove_backend(fresh, seen=mark_of(fresh), by=by)


@pytest.fixture
def job(web: Cluster, backend: Backend, director: Director) -> Job:
    """The draft of web, applied and queued."""
    return apply_draft(web)


@pytest.fixture
def run(job: Job) -> Run:
    return job.runs.get()


def person(name: str, role: str | None, cluster: Cluster | None = None) -> Client:
    """A signed-in browser of a new person."""
    user = User.objects.create_user(username=name, password="correct horse battery")
    if role:
        RoleBinding.objects.create(user=user, role=role, cluster=cluster)
    client = Client()
    client.force_login(user)
    session = client.session
    session["signed_in_at"] = session["used_at"] = int(time.time())
    session.save()
    return client


def approver(name: str, cluster: Cluster | None = None) -> Actor:
    """Somebody with an account who may approve, the same at each call."""
    user, _ = User.objects.get_or_create(username=name)
    RoleBinding.objects.get_or_create(user=user, role=Role.APPROVER, cluster=cluster)
    return Actor(name, user_id=user.pk)


@pytest.fixture
def ann(db: None) -> Client:
    return person("ann", Role.ADMINISTRATOR)


@pytest.fixture
def otto(db: None) -> Client:
    return person("otto", Role.OPERATOR)


@pytest.fixture
def vera(db: None) -> Client:
    return person("vera", Role.VIEWER)


@pytest.fixture
def mallory(other: Cluster) -> Client:
    return person("mallory", Role.ADMINISTRATOR, other)


@pytest.fixture
def nobody(db: None) -> Client:
    return person("nobody", None)


def text_of(response: Any) -> str:
    """The words of a page as a reader sees them."""
    return re.sub(r"\s+", " ", response.content.decode().replace("&#x27;", "'"))
