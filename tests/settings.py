"""The panel's settings, with keys and files of the tests' own, and without TLS or hashed file names."""

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="lvsadmin-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["LVSADMIN_DATA_DIR"] = _folder
os.environ["LVSADMIN_PLAIN_HTTP"] = "1"
# Most tests are not about it; tests/panel/test_second_factor.py turns it on.
os.environ["LVSADMIN_SECOND_FACTOR_REQUIRED"] = "0"

from lvsadmin.settings import *  # noqa: E402, F403

STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
# Argon2 is slow on purpose, and not what these tests are about.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_ROOT.mkdir()  # noqa: F405 (whitenoise looks into it)
