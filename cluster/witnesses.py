"""The directors as witnesses of the audit log: each keeps the newest checkpoints, and says which it has."""

from __future__ import annotations

import logging
import time

from kombu.exceptions import OperationalError

from cluster.audit import checkpoints
from cluster.audit.chain import Broken
from cluster.audit.signed import Envelope
from cluster.jobs import signing_key
from cluster.models import AuditEntry, AuditHead, Director
from cluster.wire.messages import ORDER_LIFETIME_S, ORDER_TASK, Operation, Order, order_queue
from lvsadmin.celery import app

logger = logging.getLogger(__name__)


def send(checkpoint: Envelope) -> None:
    """Give the checkpoint to every director that keeps such. One that is lost with Redis is not sent again:
    the next comes in minutes."""
    for director in Director.objects.filter(cluster__isnull=False).select_related("cluster"):
        if director.cluster is None or "witness" not in director.facts:
            continue
        now = time.time()
        order = Order(
            operation=Operation.WITNESS,
            run="",
            director=director.name,
            cluster=str(director.cluster.uuid),
            epoch=director.epoch,
            revision=0,
            operator="panel",
            issued_at=now,
            expires_at=now + ORDER_LIFETIME_S,
            payload={"checkpoint": checkpoint},
        )
        try:
            app.send_task(
                ORDER_TASK,
                args=[signing_key().sign("order", order.to_body())],
                queue=order_queue(director.name),
                retry=False,
                ignore_result=True,
            )
        except OperationalError as error:
            logger.warning("checkpoint not sent, director=%s error=%s", director.name, error)
            return


def held(*, by_enrolled: bool = False) -> list[tuple[Director, int, str]]:
    """Each director with the entry and the hash of the newest checkpoint that it says to hold."""
    found = []
    directors = Director.objects.order_by("name")
    for director in directors.filter(cluster__isnull=False) if by_enrolled else directors:
        witness = director.facts.get("witness") or {}
        if witness.get("sequence"):
            found.append((director, int(witness["sequence"]), str(witness.get("hash", ""))))
    return found


def disagreement(*, by_enrolled: bool = False) -> Broken | None:
    """What a director holds of the log and the log does not say; None where all agree. `by_enrolled` leaves
    out those of no cluster, which anybody on Redis could have made up."""
    head = AuditHead.objects.get(pk=1)
    for director, sequence, hashed in held(by_enrolled=by_enrolled):
        if sequence < head.sealed_sequence:
            continue
        if sequence > head.sequence:
            return Broken(head.sequence + 1, f"The log ends before it; {director} holds #{sequence}.")
        stored = AuditEntry.objects.filter(sequence=sequence).values_list("hash", flat=True).first()
        if (stored or head.sealed_hash) != hashed:
            return Broken(sequence, f"It, or one before it, is not what {director} holds of it.")
    return None


def judge() -> Broken | None:
    """Why a log without a checkpoint must not be signed as a new one: a director of a cluster knows better,
    or nothing and nobody vouches for it."""
    if held(by_enrolled=True):
        return disagreement(by_enrolled=True)
    return checkpoints.unvouched()
