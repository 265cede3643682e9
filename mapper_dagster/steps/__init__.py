"""What the steps of a mapping do: plan a load, load a lane, publish. Each is a call into the core.

Steps hand each other nothing but the order to start: the plan and what is finished are in the
ledger, so steps may run in any process on any host that reaches the target.
"""

from .load import RESUMES
from .step import Step

__all__ = ["RESUMES", "Step"]
