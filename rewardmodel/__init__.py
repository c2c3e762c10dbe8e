"""Preferee's reward models and policies: a plain library with its own command line, without Django or a database.

Importing this package, `rewardmodel.contract` or `rewardmodel.rundir` needs the standard library alone; torch
arrives with the modules that compute. Start with `python -m rewardmodel --help`.
"""

import os

# Training on someone's judgements must not tell a third party that it happens. The hub reads this when it is first
# imported, so it is set here, before any module of ours can import it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_DISABLE_TELEMETRY", "1")
