"""The one task of a director: a shell over a plain function."""

from __future__ import annotations

from celery import Celery

from cluster.director import apply, host
from cluster.wire.messages import ORDER_TASK


def register(app: Celery, director: apply.Director) -> None:
    """Let the app answer to the name under which the panel sends."""

    @app.task(name=ORDER_TASK)
    def order(envelope: object) -> None:
        apply.take(envelope, director)
        host.return_free_memory()
