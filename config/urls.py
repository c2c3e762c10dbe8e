"""URLs of the whole site."""

from django.urls import include, path

urlpatterns = [path("", include("annotation.urls"))]
