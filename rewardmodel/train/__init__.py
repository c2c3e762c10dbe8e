"""Trainers, one a file: each reads from top to bottom as the story of one run."""
