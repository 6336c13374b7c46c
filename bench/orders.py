"""The panel's part towards a director: signs orders, sends them by Celery, and hears what became of them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import redis
from celery import Celery

from cluster.ipvs.formats import document as table_document
from cluster.ipvs.state import Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from cluster.wire.envelope import SigningKey, unverified_body
from cluster.wire.messages import (
    ORDER_LIFETIME_S,
    ORDER_TASK,
    REPORT_QUEUE,
    Event,
    Operation,
    Order,
    Outcome,
    order_queue,
)
from lab.door import LabError
from lab.host import Lab

# Good for nothing but a lab that was told to trust it.
KEY = SigningKey(b"the key of a panel in the bench.")
ANSWER_WITHIN_S = 30.0


class Orders:
    """One director's orders, each a revision of its own. The lab must trust KEY, and no panel run there."""

    def __init__(self, lab: Lab, director: str) -> None:
        self._director = director
        self._app = Celery("bench", broker=lab.celery_url, fixups=[], set_as_current=False)
        self._redis = redis.Redis.from_url(lab.redis_url, socket_timeout=2 * ANSWER_WITHIN_S)
        self._revision = int(time.time())

    def send(self, table: Table, traffic: Traffic) -> str:
        """Send the order and go on; the run's name."""
        self._revision += 1
        now = time.time()
        order = Order(
            operation=Operation.APPLY,
            run=f"run-{self._revision}",
            director=self._director,
            cluster="bench",
            epoch=1,
            revision=self._revision,
            operator="bench",
            issued_at=now,
            expires_at=now + ORDER_LIFETIME_S,
            payload={
                "table": table_document.to_document(table),
                "traffic": traffic_document.to_document(traffic),
            },
        )
        self._app.send_task(
            ORDER_TASK,
            args=[KEY.sign("order", order.to_body())],
            queue=order_queue(self._director),
            retry=False,
            ignore_result=True,
        )
        return order.run

    def apply(self, table: Table, traffic: Traffic) -> None:
        """Send the order and wait until the director has verified it. LabError where it does not."""
        self.wait(self.send(table, traffic))

    def wait(self, run: str) -> None:
        """Wait for the end of this run, whose predecessors have ended then too."""
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while time.monotonic() < deadline:
            report = self._hear()
            if report is None or report["event"] != Event.FINISHED:
                continue
            if report["payload"]["outcome"] != Outcome.APPLIED:
                raise LabError(f"{self._director} did not apply {report['run']}: {report['payload']['text']}")
            if report["run"] == run:
                return
        raise LabError(f"{self._director} did not answer to {run} within {ANSWER_WITHIN_S:.0f} s.")

    def _hear(self) -> dict[str, Any] | None:
        """The next report; None where none came for a while. Nobody forges reports here, so whose they are is
        not looked into."""
        found: Any = self._redis.blpop([REPORT_QUEUE], timeout=1)
        if found is None:
            return None
        arguments, *_ = json.loads(base64.b64decode(json.loads(found[1])["body"]))
        return unverified_body(arguments[0])
