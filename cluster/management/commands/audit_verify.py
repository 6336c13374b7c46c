"""Check the audit log's chain from its first entry to its head."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cluster.audit import chain
from cluster.models import AuditHead


class Command(BaseCommand):
    help = "Check that no audit entry was altered, removed, swapped or cut off."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = chain.verify()
        if broken is not None:
            raise CommandError(f"The audit log is not what was written, from entry {broken}")
        self.stdout.write(f"The audit log is intact up to entry #{AuditHead.objects.get(pk=1).sequence}.")
