"""ASGI entry point."""

import os

from django.core.asgi import get_asgi_application

from config.delivery import require_collected_files

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_asgi_application()
require_collected_files()
