"""Text that people write, YAML or JSON, as a mapping. The standard library and PyYAML.

An alias (`*name`) is refused: a few lines of them stand for gigabytes. YAML 1.1 takes 1e-4 for a string; here it is
the number that it looks like.
"""

from __future__ import annotations

import re
from typing import Any

from rewardmodel.contract import SpecError

NUMBER = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")


def read_document(text: str) -> Any:
    """What the text says. Raises SpecError where it is neither YAML nor JSON, or nested beyond reason."""
    import yaml

    try:
        return yaml.load(text, Loader=_build_loader())
    except yaml.YAMLError as error:
        hint = '; write references in quotes, as "@sft"' if "'@'" in str(error) else ""
        raise SpecError(f"not valid YAML or JSON: {error}{hint}") from None
    except RecursionError:
        raise SpecError("not valid YAML or JSON: nested too deeply") from None
    except ValueError as error:  # a date or number that YAML recognises and Python does not know
        raise SpecError(f"not valid YAML or JSON: {error}") from None


def write_document(value: Any) -> str:
    """The value as YAML, in its own order."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))


def _build_loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: aliases (*name) are not read")
            return super().compose_node(parent, index)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789"))
    return Loader
