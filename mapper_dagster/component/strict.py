"""What all parts of the YAML have in common."""

import dagster as dg
from pydantic import ConfigDict


class Strict(dg.Model, dg.Resolvable):
    """Refuses attributes that it does not know, so that a misspelt one is not ignored."""

    model_config = ConfigDict(extra="forbid")
