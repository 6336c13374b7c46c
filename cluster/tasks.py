"""The panel's Celery tasks: shells over jobs.py."""

from celery import shared_task

from cluster import jobs


@shared_task(name="panel.report")
def report(envelope: object) -> None:
    jobs.take(envelope)


@shared_task(name="panel.sweep")
def sweep() -> None:
    jobs.sweep()
