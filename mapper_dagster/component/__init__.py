"""A mapping declared in YAML: `type: mapper_dagster.MappingComponent`.

Each module has a part of what is written there, and makes of it what Dagster calls it.
"""

from .component import MappingComponent

__all__ = ["MappingComponent"]
