"""What gunicorn serves."""

import logging
import os

from django.core.checks import Tags, run_checks
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lvsadmin.settings")
application = get_wsgi_application()
# Only manage.py looks by itself. All that it looks at takes half a second.
for found in run_checks(tags=[Tags.security]):
    logging.getLogger(__name__).log(found.level, "%s", found)
