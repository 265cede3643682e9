"""Asset checks of a mapping: whether the target holds what the source has.

Each module here is one check's: what it is called, when it can be made, what it finds. `step` has
them made, several by one step.
"""

from .building import build_mapping_checks

__all__ = ["build_mapping_checks"]
