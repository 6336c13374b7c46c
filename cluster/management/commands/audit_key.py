"""Print the public key of the audit log's checkpoints. Makes the key at its first call."""

from typing import Any

from django.core.management.base import BaseCommand

from cluster.audit.signed import signing_key


class Command(BaseCommand):
    help = "Print the public key with which checkpoints, exports and segments of the audit log are checked."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(signing_key().public)
