"""The project with everything in it, as the tests of the views have it."""

from tests.views.conftest import world

__all__ = ["world"]
