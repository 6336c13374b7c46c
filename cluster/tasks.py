"""The panel's Celery tasks: shells over jobs.py, due.py and trails.py."""

from celery import shared_task
from django.core.management import call_command

from cluster import due, jobs, reports, trails, witnesses
from cluster.audit import checkpoints
from cluster.audit.digest import send_digest


@shared_task(name="panel.report")
def report(envelope: object) -> None:
    reports.take(envelope)


@shared_task(name="panel.sweep")
def sweep() -> None:
    trails.keep_trails(jobs.sweep())
    due.sweep()
    if made := checkpoints.sweep(ask_witnesses=witnesses.judge):
        witnesses.send(made)


@shared_task(name="panel.digest")
def digest() -> None:
    send_digest()


@shared_task(name="panel.tidy")
def tidy() -> None:
    call_command("clearsessions")
