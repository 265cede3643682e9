"""One load's publishing: compared before, told in words when it fails, or when nobody answered."""

import logging
from dataclasses import dataclass, field
from functools import partial

from .. import verification
from ..errands import Errands
from ..errors import DatabaseError, InDoubtError, MapperError, VerificationError
from ..model import Mapping, Plan
from ..protocols import Transaction
from ..stopping import Spared
from ..target_side import TargetSide
from . import publisher

logger = logging.getLogger(__name__)

_NOT_PUBLISHED = (
    "Nothing was published; the target is unchanged. Fix the cause, then run the load again with"
    " the same load id, or as a new load if the source's rows have changed (in Dagster:"
    " re-execute from failure, or launch a new run)"
)
"""What has become of a load whose stage could not be published, and what to do about it."""


@dataclass(slots=True)
class Publication:
    """One load's, through as many attempts as it takes."""

    plan: Plan
    mapping: Mapping
    target: TargetSide
    errands: Errands
    verifying: verification.Verifying
    expected: verification.Expected | None
    """What the source says of the load's rows; None when they are not to be compared."""
    asked: str
    """The same in words, or why it was not asked."""
    _words: str = field(init=False, default="")
    """What was compared."""
    _older: str | None = field(init=False, default=None)
    """Whose newer rows it takes the place of, in words."""
    _in_doubt: bool = field(init=False, default=False)
    """Whether a COMMIT was sent, and may have got no answer."""
    _spared: Spared = field(init=False)

    def __post_init__(self) -> None:
        self._spared = Spared(self.target.in_use)

    def publish(self) -> str:
        """Verify and publish; twice is safe. Return what was compared, in words.

        Raises as `Load.publish` does.
        """
        # Of a load that is published already nothing is compared any more.
        self._words = self.asked
        try:
            self.errands.do_unless_stopped("publish", self._attempt, give_up=self._give_up)
        except VerificationError as error:
            self.errands.do("note the difference of", partial(self._note, str(error)))
            raise
        except MapperError as error:
            if self._in_doubt:
                msg = (
                    f"it is not known whether load {self.plan.load_id} is published: its COMMIT"
                    f" got no answer, and the target has not been reached since ({error}). Run the"
                    " load again with the same load id (in Dagster: re-execute from failure): it"
                    " is published then, unless the ledger shows that it already is"
                )
                raise InDoubtError(msg) from error
            if isinstance(error, DatabaseError) and self.plan.stage_table:
                raise type(error)(f"{error}. {_NOT_PUBLISHED}") from error.__cause__
            raise
        if self._older is not None:
            logger.warning("load %s: %s", self.plan.load_id, self._older)
        return self._words

    def _give_up(self) -> None:
        """End the waiting of a COMMIT, which may be for a standby that is gone."""
        if self._in_doubt:
            self._spared.cancel()

    def _attempt(self) -> None:
        target, before = self.target, None
        try:
            with target.transaction() as transaction:
                publisher.publish(
                    transaction,
                    target.database,
                    target.ledger,
                    self.plan,
                    self.mapping,
                    verify=self._verify,
                )
                before = self._in_doubt
                self._in_doubt = True  # if this COMMIT gets no answer
        except Exception as error:
            if before is not None and target.database.is_rolled_back(error):
                self._in_doubt = before  # it got one
            raise

    def _verify(self, transaction: Transaction) -> None:
        self._in_doubt = False  # an earlier attempt did not commit, or this one were not needed
        self._words, ledger = self.asked, self.target.ledger
        if self.expected is not None:
            self._words = self.verifying.check(transaction, self.expected)
        self._older = verification.overtaken(transaction, ledger, self.plan, self.mapping)
        if self._older is not None:
            self._words += f"; but {self._older}"
        ledger.note_verified(transaction, self.plan, self._words, published=True)

    def _note(self, difference: str) -> None:
        with self.target.transaction() as transaction:
            self.target.ledger.note_verified(transaction, self.plan, difference, published=False)
