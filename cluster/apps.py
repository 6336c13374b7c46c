"""The app's configuration."""

from django.apps import AppConfig
from django.core.checks import Tags, register

from cluster.breached_passwords import check_list


class ClusterConfig(AppConfig):
    name = "cluster"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(check_list, Tags.security)
