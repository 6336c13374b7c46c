"""The panel's Celery app: it sends orders and hears reports. The directors have another one."""

import os
import ssl

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

from cluster.wire.messages import REPORT_QUEUE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lvsadmin.settings")

app = Celery("panel")
app.conf.update(
    # redis-py says unix://, kombu says redis+socket:// for the same thing.
    broker_url=settings.REDIS_URL.replace("unix://", "redis+socket://", 1),
    # kombu would otherwise take any certificate.
    broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if settings.REDIS_URL.startswith("rediss:") else None,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 120,
        "socket_timeout": 10,
        "socket_connect_timeout": 1,
        "health_check_interval": 25,
    },
    task_default_queue=REPORT_QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_time_limit=60,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    beat_schedule={
        "sweep": {"task": "panel.sweep", "schedule": 2.0, "options": {"expires": 2.0}},
        # Every hour, because a mail server may be away; it is sent once a day.
        "digest": {"task": "panel.digest", "schedule": 3600.0, "options": {"expires": 3600.0}},
        "tidy": {"task": "panel.tidy", "schedule": 6 * 3600.0},
    },
)
app.autodiscover_tasks(["cluster"])


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Celery would otherwise replace the JSON lines of settings.LOGGING."""
