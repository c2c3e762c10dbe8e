"""Runs that advise on a project."""

from __future__ import annotations

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
    ("advise", "advice"),
]


class Migration(migrations.Migration):
    dependencies = [("annotation", "0006_ppo_methods")]

    operations = [
        migrations.RemoveConstraint(model_name="run", name="run_method_known"),
        migrations.AlterField(
            model_name="run", name="method", field=models.CharField(choices=METHODS, max_length=12)
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(
                condition=models.Q(method__in=[method for method, _label in METHODS]), name="run_method_known"
            ),
        ),
    ]
