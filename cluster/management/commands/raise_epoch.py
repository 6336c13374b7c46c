"""After the panel was restored from a backup: make the directors listen to its lower revision numbers."""

from typing import Any

from django.core.management.base import BaseCommand

from cluster.actions.directors import raise_epochs
from cluster.audit import Actor


class Command(BaseCommand):
    help = "Raise every director's epoch, and send each its cluster's newest revision."

    def handle(self, *args: Any, **options: Any) -> None:
        jobs = raise_epochs(by=Actor("raise_epoch"))
        self.stdout.write(f"Every director has a new epoch; {len(jobs)} jobs are queued.")
