"""Every page of the site, by the part of the circle that it belongs to."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, include, path
from django.views.i18n import set_language

from annotation.views import (
    agreement,
    data,
    history,
    importing,
    leaderboard,
    messages,
    models,
    online_runs,
    people,
    pipelines,
    practice,
    projects,
    ranking,
    runs,
    settings,
    snapshots,
)

project_patterns: list[URLPattern | URLResolver] = [
    path("", projects.project_detail, name="project_detail"),
    path("guidelines/", projects.guidelines, name="guidelines"),
    path("members/", people.member_list, name="member_list"),
    path("settings/", settings.project_settings, name="project_settings"),
    path("import/", importing.import_data, name="import_data"),
    path("rank/", ranking.rank, name="rank"),
    path("rank/claim/", ranking.rank_claim, name="rank_claim"),
    path("rank/submit/", ranking.rank_submit, name="rank_submit"),
    path("rank/skip/", ranking.rank_skip, name="rank_skip"),
    path("rank/prefetch/", ranking.rank_prefetch, name="rank_prefetch"),
    path("rank/renew/", ranking.rank_renew, name="rank_renew"),
    path("rank/draft/", ranking.rank_draft, name="rank_draft"),
    path("rank/preview/", ranking.rank_preview, name="rank_preview"),
    path("rank/undo/", ranking.rank_undo, name="rank_undo"),
    path("rankings/<int:pk>/amend/", ranking.ranking_amend, name="ranking_amend"),
    path("rank/message/", messages.rank_message, name="rank_message"),
    path("history/", history.history, name="history"),
    path("messages/", messages.message_list, name="message_list"),
    path("messages/<int:pk>/", messages.message_reply, name="message_reply"),
    path("messages/<int:pk>/seen/", messages.message_seen, name="message_seen"),
    path("practice/", practice.practice_list, name="practice_list"),
    path("practice/next/", practice.practice_next, name="practice_next"),
    path("practice/<int:number>/", practice.practice_example, name="practice_example"),
    path("practice/<int:number>/result/", practice.practice_result, name="practice_result"),
    path("practice/<int:number>/remove/", practice.practice_remove, name="practice_remove"),
    path("rankings/<int:pk>/practice/", practice.practice_add, name="practice_add"),
    path("agreement/", agreement.agreement, name="agreement"),
    path("leaderboard/", leaderboard.leaderboard, name="leaderboard"),
    path("leaderboard/items.csv", leaderboard.leaderboard_items, name="leaderboard_items"),
    path("leaderboard/pairs.csv", leaderboard.leaderboard_pairs, name="leaderboard_pairs"),
    path("leaderboard/report.json", leaderboard.leaderboard_report, name="leaderboard_report"),
    path("leaderboard/battles/", leaderboard.leaderboard_battles, name="leaderboard_battles"),
    path("data/", data.prompt_list, name="prompt_list"),
    path("data/<int:pk>/", data.prompt_detail, name="prompt_detail"),
    path("snapshots/", snapshots.snapshot_list, name="snapshot_list"),
    path("snapshots/<int:number>/", snapshots.snapshot_detail, name="snapshot_detail"),
    path("snapshots/<int:number>/files/<path:name>", snapshots.snapshot_file, name="snapshot_file"),
    path("runs/", runs.run_list, name="run_list"),
    path("runs/new/", runs.run_new, name="run_new"),
    path("runs/compare/", online_runs.run_compare, name="run_compare"),
    path("runs/<int:number>/", runs.run_detail, name="run_detail"),
    path("runs/<int:number>/state/", runs.run_state, name="run_state"),
    path("runs/<int:number>/live/", online_runs.run_live, name="run_live"),
    path("runs/<int:number>/samples/", online_runs.run_samples, name="run_samples"),
    path("runs/<int:number>/metrics.json", runs.run_metrics_json, name="run_metrics"),
    path("runs/<int:number>/cancel/", runs.run_cancel, name="run_cancel"),
    path("runs/<int:number>/register/", runs.run_register, name="run_register"),
    path("pipelines/", pipelines.pipeline_list, name="pipeline_list"),
    path("pipelines/new/", pipelines.pipeline_new, name="pipeline_new"),
    path("pipelines/<int:number>/", pipelines.pipeline_detail, name="pipeline_detail"),
    path("pipelines/<int:number>/state/", pipelines.pipeline_state, name="pipeline_state"),
    path("pipelines/<int:number>/cancel/", pipelines.pipeline_cancel, name="pipeline_cancel"),
    path("pipelines/<int:number>/resume/", pipelines.pipeline_resume, name="pipeline_resume"),
    path("models/", models.model_list, name="model_list"),
    path("models/<int:pk>/", models.model_detail, name="model_detail"),
]

LOGIN_METHODS = ["get", "post", "head", "options"]  # Django's view would take PUT as POST

urlpatterns: list[URLPattern | URLResolver] = [
    path("", projects.project_list, name="project_list"),
    path(
        "login/",
        LoginView.as_view(template_name="annotation/login.html", http_method_names=LOGIN_METHODS),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("language/", set_language, name="set_language"),
    path("projects/new/", projects.project_new, name="project_new"),
    path("projects/<slug:slug>/", include(project_patterns)),
]
