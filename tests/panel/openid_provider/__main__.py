"""`python -m tests.panel.openid_provider PORT FOLDER`: its database in the folder; it serves on loopback."""

from __future__ import annotations

import os
import sys

import django
from django.core.management import call_command
from django.core.servers import basehttp

from tests.panel import openid_provider as agreed


def main() -> None:
    port, folder = int(sys.argv[1]), sys.argv[2]
    # Whatever pytest has put there is the panel's.
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.panel.openid_provider.settings"
    os.environ["OPENID_PROVIDER_FOLDER"] = folder
    django.setup()
    call_command("migrate", verbosity=0)
    administer()
    basehttp.run("127.0.0.1", port, basehttp.get_internal_wsgi_application(), threading=True)


def administer() -> None:
    """Register the panel, and give people their accounts."""
    from django.contrib.auth.models import Group, User  # needs the settings
    from oauth2_provider.models import Application

    for client in (agreed.CLIENT, agreed.TERSE_CLIENT, agreed.TWISTED_CLIENT):
        Application.objects.create(
            name="LVS Admin",
            client_id=client,
            client_secret=agreed.SECRET,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
            redirect_uris=agreed.BACK,
            algorithm=Application.RS256_ALGORITHM,
        )
    for name, groups in agreed.PEOPLE.items():
        user = User.objects.create_user(name, password=agreed.PASSWORD)
        user.groups.set(Group.objects.get_or_create(name=group)[0] for group in groups)


if __name__ == "__main__":
    main()
