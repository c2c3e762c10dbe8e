"""Runs of PPO, RLOO, GRPO and online DPO, and the reward models that they are trained against or watched by."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

METHODS = [
    ("reward", "reward model"),
    ("sft", "SFT"),
    ("dpo", "DPO"),
    ("kto", "KTO"),
    ("rejection", "rejection sampling"),
    ("ppo", "PPO"),
    ("rloo", "RLOO"),
    ("grpo", "GRPO"),
    ("online-dpo", "online DPO"),
    ("generate", "generation"),
    ("score", "scoring"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("annotation", "0005_rejection_runs"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="run", name="run_method_known"),
        migrations.AlterField(
            model_name="run", name="method", field=models.CharField(choices=METHODS, max_length=12)
        ),
        migrations.AddField(
            model_name="run",
            name="gold_model",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="gold_runs",
                to="annotation.model",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="reward_model",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rewarded_runs",
                to="annotation.model",
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(
                condition=models.Q(method__in=[method for method, _label in METHODS]), name="run_method_known"
            ),
        ),
    ]
