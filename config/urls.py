"""URLs of the whole site."""

from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("annotation.api.urls")),
    path("", include("annotation.urls")),
]
