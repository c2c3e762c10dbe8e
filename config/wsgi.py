"""WSGI entry point."""

import os

from django.core.wsgi import get_wsgi_application

from config.delivery import require_collected_files

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
require_collected_files()
