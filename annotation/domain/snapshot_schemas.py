"""The columns of every format: fixed, so that an empty split and a full one have the same, and so that a column that
is empty in one split has its type there too.
"""

from __future__ import annotations

import pyarrow as pa

DTYPES = {"string": "string", "int64": "int64", "bool": "bool", "double": "float64"}
"""Arrow's names of the columns' types, and those of `datasets`."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PROVENANCE = [
    ("prompt_id", pa.int64()),
    ("group_id", pa.string()),
    ("task", pa.string()),
    ("annotator", pa.string()),
    ("simulated", pa.bool_()),
    ("all_bad", pa.bool_()),
    ("criterion", pa.string()),
]
_RANKING = [
    ("prompt", _MESSAGES),
    ("responses", pa.list_(pa.string())),
    ("response_ids", pa.list_(pa.int64())),
    ("ranks", pa.list_(pa.int64())),
    *_PROVENANCE,
    ("rationale", pa.string()),
]
SCHEMAS: dict[str, pa.Schema] = {
    "trl-preference": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("chosen", _MESSAGES),
            ("rejected", _MESSAGES),
            *_PROVENANCE,
            ("origin", pa.string()),
            ("chosen_id", pa.int64()),
            ("rejected_id", pa.int64()),
            ("strength", pa.int64()),
            ("weight", pa.float64()),
        ]
    ),
    "trl-unpaired": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("completion", _MESSAGES),
            ("label", pa.bool_()),
            *_PROVENANCE,
            ("response_id", pa.int64()),
        ]
    ),
    "rankings": pa.schema(_RANKING),
    "ratings": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("completion", _MESSAGES),
            ("scales", pa.list_(pa.string())),
            ("values", pa.list_(pa.float64())),
            ("flags", pa.list_(pa.string())),
            *_PROVENANCE,
            ("response_id", pa.int64()),
        ]
    ),
    "sft": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("completion", _MESSAGES),
            *_PROVENANCE,
            ("origin", pa.string()),
            ("response_id", pa.int64()),
        ]
    ),
    "annotations": pa.schema(
        [
            *_RANKING,
            ("sources", pa.list_(pa.string())),
            ("presented_order", pa.list_(pa.int64())),
            ("order_seed", pa.int64()),
            ("order_row", pa.int64()),
            ("active_ms", pa.int64()),
            ("strength", pa.int64()),
            ("ratings", pa.string()),
            ("flags", pa.string()),
            ("highlights", pa.string()),
            ("corrections", pa.string()),
            ("guidelines_version", pa.int64()),
            ("created_at", pa.string()),
            ("metadata", pa.string()),
        ]
    ),
    "references": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("completion", _MESSAGES),
            ("prompt_id", pa.int64()),
            ("external_id", pa.string()),
        ]
    ),
    "prompts": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("prompt_id", pa.int64()),
            ("external_id", pa.string()),
            ("reference", pa.string()),
            ("verifier", pa.string()),
            ("metadata", pa.string()),
        ]
    ),
}


def yaml_features(schema: pa.Schema) -> str:
    """The columns as a dataset card's YAML head states them."""
    lines = []
    for field in schema:
        if not pa.types.is_list(field.type):
            lines.append(f"  - name: {field.name}\n    dtype: {DTYPES[str(field.type)]}\n")
        elif pa.types.is_struct(field.type.value_type):
            parts = "".join(
                f"    - name: {part.name}\n      dtype: {DTYPES[str(part.type)]}\n" for part in field.type.value_type
            )
            lines.append(f"  - name: {field.name}\n    list:\n{parts}")
        else:
            lines.append(f"  - name: {field.name}\n    list: {DTYPES[str(field.type.value_type)]}\n")
    return "".join(lines)
