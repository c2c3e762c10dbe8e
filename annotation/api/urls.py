"""URLs of the JSON API."""

from django.urls import path

from annotation.api import views

urlpatterns = [
    path("projects/", views.projects, name="api_projects"),
    path("projects/<slug:slug>/slates/next/", views.next_slate, name="api_next_slate"),
    path("projects/<slug:slug>/rankings/", views.rankings, name="api_rankings"),
    path("projects/<slug:slug>/advice/", views.advice, name="api_advice"),
    path("projects/<slug:slug>/runs/", views.run_list, name="api_runs"),
    path("projects/<slug:slug>/runs/<int:number>/", views.run_detail, name="api_run"),
    path("projects/<slug:slug>/runs/<int:number>/cancel/", views.run_cancel, name="api_run_cancel"),
    path("projects/<slug:slug>/pipelines/", views.pipeline_list, name="api_pipelines"),
    path("projects/<slug:slug>/pipelines/<int:number>/", views.pipeline_detail, name="api_pipeline"),
    path("projects/<slug:slug>/pipelines/<int:number>/cancel/", views.pipeline_cancel, name="api_pipeline_cancel"),
    path("projects/<slug:slug>/pipelines/<int:number>/resume/", views.pipeline_resume, name="api_pipeline_resume"),
]
