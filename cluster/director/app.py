"""The director's own Celery app. It shares nothing with the panel's but the names of task and queue."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from cluster.director.apply import Director
from cluster.director.reports import NotDelivered, Publish
from cluster.director.tasks import register
from cluster.wire.messages import REPORT_QUEUE, REPORT_TASK, order_queue

# How long a killed worker's order waits before another takes it. Longer than an apply may last.
VISIBILITY_TIMEOUT_S = 120


def make_app(director: Director) -> Celery:
    """The app of this director, with its one task."""
    name = director.name
    # Without fixups=[] a stray DJANGO_SETTINGS_MODULE loads the ORM into this process.
    app = Celery("director", broker=director.config.broker, fixups=[], set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=order_queue(name),
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=15,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        # Publishing must not outlast an operator's patience: one try, then the spool.
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "health_check_interval": 25,
            # Apart for each director, so that none puts back what another is working on.
            "unacked_key": f"unacked.{name}",
            "unacked_index_key": f"unacked_index.{name}",
            "unacked_mutex_key": f"unacked_mutex.{name}",
            "max_retries": 0,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )
    register(app, director)
    return app


def publisher(app: Celery) -> Publish:
    """What sends one signed report to the panel's queue, or raises NotDelivered soon."""

    def publish(envelope: dict[str, str]) -> None:
        try:
            app.send_task(REPORT_TASK, args=[envelope], queue=REPORT_QUEUE, retry=False, ignore_result=True)
        except (OperationalError, OSError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error

    return publish


def run_worker(app: Celery, director: Director) -> int:
    """Take orders until SIGTERM, which lets the current one finish. The exit status."""
    worker = app.Worker(
        hostname=f"worker@{director.name}",
        queues=[order_queue(director.name)],
        pool="solo",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
