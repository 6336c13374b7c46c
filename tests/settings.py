"""The panel's settings, with keys and files of the tests' own, and without TLS or hashed file names."""

import os
import tempfile

os.environ["LVSADMIN_DATA_DIR"] = tempfile.mkdtemp(prefix="lvsadmin-tests-")
os.environ["LVSADMIN_PLAIN_HTTP"] = "1"

from lvsadmin.settings import *  # noqa: E402, F403

STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
# Argon2 is slow on purpose, and not what these tests are about.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_ROOT.mkdir()  # noqa: F405 (whitenoise looks into it)
