"""Verifiers: is a response right, where a program can tell?

`registry` has the kinds and `verify`, the one protocol; `rows` verifies files for the command line. A kind is a
module: `math`, `constraints` (with `instructions`), `logic`, `reward`, `functions` (kind `python`). `workers` bounds
every check.
"""
