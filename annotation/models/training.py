"""Runs, the models they make, the scores that reward models give, and the verdicts of verifiers."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.project import Project
from annotation.models.prompt import Response
from annotation.models.snapshot import Snapshot


class Run(models.Model):
    """One training or generation job. This row owns the intent; the run directory owns the facts.

    `attempt` counts the leases given out and fences off a worker that comes back from the dead: it may write only
    while the attempt is its own. `crashes` counts the leases that lapsed. `reward_model` is what a policy is trained
    against on its own responses, `gold_model` one that only watches.
    """

    class Method(models.TextChoices):
        REWARD = "reward", _("reward model")
        SFT = "sft", _("SFT")
        DPO = "dpo", _("DPO")
        KTO = "kto", _("KTO")
        REJECTION = "rejection", _("rejection sampling")
        PPO = "ppo", _("PPO")
        RLOO = "rloo", _("RLOO")
        GRPO = "grpo", _("GRPO")
        ONLINE_DPO = "online-dpo", _("online DPO")
        CHECK = "check", _("check by verifiers")
        GENERATE = "generate", _("generation")
        SCORE = "score", _("scoring")
        ADVISE = "advise", _("advice")
        VERIFY = "verify", _("verification")

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="runs")
    number = models.PositiveIntegerField()
    method = models.CharField(max_length=12, choices=Method)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    spec = models.JSONField()
    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, null=True, blank=True, related_name="runs")
    base_model = models.ForeignKey(
        "annotation.Model", on_delete=models.PROTECT, null=True, blank=True, related_name="runs"
    )
    reward_model = models.ForeignKey(
        "annotation.Model", on_delete=models.PROTECT, null=True, blank=True, related_name="rewarded_runs"
    )
    gold_model = models.ForeignKey(
        "annotation.Model", on_delete=models.PROTECT, null=True, blank=True, related_name="gold_runs"
    )
    collected_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    attempt = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=120, blank=True)
    deadline = models.DateTimeField(null=True, blank=True)
    status = models.JSONField(default=dict, blank=True)
    report = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["project", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="run_number_once_a_project"),
            models.CheckConstraint(
                condition=Q(
                    method__in=[
                        "reward",
                        "sft",
                        "dpo",
                        "kto",
                        "rejection",
                        "ppo",
                        "rloo",
                        "grpo",
                        "online-dpo",
                        "check",
                        "generate",
                        "score",
                        "advise",
                        "verify",
                    ]
                ),
                name="run_method_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "succeeded", "failed", "cancelled"]),
                name="run_state_known",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(deadline__isnull=False), name="run_running_has_deadline"
            ),
        ]
        indexes = [models.Index(fields=["state", "deadline"])]

    def __str__(self) -> str:
        return f"{self.project.slug} run {self.number}"


class Model(models.Model):
    """An entry of the registry: a policy or a reward model, with the run that made it (none for a base model).

    `location` is what `rewardmodel` loads: an embedded name, a hub id, or a path, relative to DATA_DIR where the
    model was made here.
    """

    class Kind(models.TextChoices):
        POLICY = "policy", _("policy")
        REWARD = "reward", _("reward model")

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="models")
    name = models.CharField(_("name"), max_length=120)
    kind = models.CharField(max_length=8, choices=Kind)
    location = models.CharField(max_length=500)
    run = models.OneToOneField(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="registered_model")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="model_name_once_a_project"),
            models.CheckConstraint(condition=Q(kind__in=["policy", "reward"]), name="model_kind_known"),
        ]

    def __str__(self) -> str:
        return self.name


class Score(models.Model):
    """A reward model's number for a response: higher is better, comparable only within one model."""

    response = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="scores")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="scores")
    value = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["response", "model"], name="score_once_a_model_and_response"),
        ]

    def __str__(self) -> str:
        return f"{self.value:.3f}"


class Verdict(models.Model):
    """What its prompt's verifier said of a response: whether it passed, a score from 0 to 1, and why.

    A prompt's verifier never changes once it has one, so that a response has one verdict. `verifier_hash` is the
    SHA-256 of the verifier that said it.
    """

    response = models.OneToOneField(Response, on_delete=models.PROTECT, related_name="verdict")
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="verdicts")
    kind = models.CharField(max_length=20)
    verifier_hash = models.CharField(max_length=64)
    passed = models.BooleanField()
    score = models.FloatField()
    reason = models.TextField()
    seconds = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(condition=Q(score__range=(0, 1)), name="verdict_score_0_to_1"),
            models.CheckConstraint(condition=~Q(reason=""), name="verdict_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.response_id} {'passed' if self.passed else 'failed'}"
