"""Print the panel's public key, which every director pins. Makes the key at its first call."""

from typing import Any

from django.core.management.base import BaseCommand

from cluster.jobs import signing_key


class Command(BaseCommand):
    help = "Print the public key that goes into each director's configuration."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(signing_key().public)
