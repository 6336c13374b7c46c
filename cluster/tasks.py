"""The panel's Celery tasks: shells over jobs.py, due.py and trails.py."""

from celery import shared_task
from django.core.management import call_command

from cluster import due, jobs, trails


@shared_task(name="panel.report")
def report(envelope: object) -> None:
    jobs.take(envelope)


@shared_task(name="panel.sweep")
def sweep() -> None:
    trails.keep_trails(jobs.sweep())
    due.sweep()


@shared_task(name="panel.tidy")
def tidy() -> None:
    call_command("clearsessions")
