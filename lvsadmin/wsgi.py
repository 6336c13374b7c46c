"""What gunicorn serves."""

import logging
import os

from django.core.checks import run_checks
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lvsadmin.settings")
application = get_wsgi_application()
# Only manage.py looks by itself.
for found in run_checks():
    logging.getLogger(__name__).log(found.level, "%s", found)
