"""The panel's settings, with Django's own admin beside it. For the bench alone: the product has no admin."""

from lvsadmin.settings import *  # noqa: F403
from lvsadmin.settings import INSTALLED_APPS, TEMPLATES

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.admin"]
TEMPLATES[0]["OPTIONS"]["context_processors"].append(  # type: ignore[index]
    "django.contrib.auth.context_processors.auth"
)
ROOT_URLCONF = "bench.admin_urls"
# The same for both; hashed names would need `collectstatic`.
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
