"""What PostgreSQL's errors mean: try again, give up, or lay it to a row."""

import psycopg
import pytest

from mapper_core import TransferError
from mapper_core.adapters.postgresql import errors

# Source of the names: PostgreSQL documentation, appendix A.
TRANSIENT = {
    "08006": "connection_failure",
    "40001": "serialization_failure, and a recovery conflict on a standby",
    "40P01": "deadlock_detected",
    "53300": "too_many_connections",
    "55P03": "lock_not_available",
    "57P01": "admin_shutdown",
    "57P03": "cannot_connect_now",
}
PERMANENT = {
    "0A000": "feature_not_supported",
    "22P02": "invalid_text_representation",
    "23505": "unique_violation",
    "42501": "insufficient_privilege",
    "42601": "syntax_error",
    "42804": "datatype_mismatch",
    "42P01": "undefined_table",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "57014": "query_canceled",
}


@pytest.mark.parametrize("code", TRANSIENT)
def test_what_may_pass_is_tried_again(code):
    """By its code, whatever the words."""
    assert errors.is_transient(psycopg.errors.lookup(code)("any words"))


@pytest.mark.parametrize("code", PERMANENT)
def test_what_will_not_pass_is_not(code):
    """A full disk and a wrong query are an operator's matter."""
    assert not errors.is_transient(psycopg.errors.lookup(code)("any words"))


@pytest.mark.parametrize(
    ("code", "of_a_row"),
    [
        *(("22P02", True), ("22003", True), ("23502", True), ("23505", True), ("23514", True)),
        *(("P0001", True), ("54000", True), ("42501", False), ("53100", False), ("57014", False)),
        *(("40001", False), ("08006", False), ("42P01", False)),
    ],
)
def test_an_error_is_laid_to_a_row_only_if_its_values_cause_it(code, of_a_row):
    """The others fail the chunk as a whole."""
    assert (errors.row_error(psycopg.errors.lookup(code)("any words")) == code) is of_a_row


@pytest.mark.parametrize(
    "words",
    [
        "FATAL:  sorry, too many clients already",
        'FATAL:  too many connections for role "loader"',
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "FATAL:  no more connections allowed (max_client_conn)",
        "FATAL:  query_wait_timeout",
    ],
)
def test_a_refused_connection_for_want_of_places_is_known(words):
    """The server's words are all that libpq hands on."""
    refused = psycopg.OperationalError(f'connection to server at "db" failed: {words}')

    assert errors.is_crowded(refused)
    assert errors.is_transient(refused)
    assert not errors.is_crowded(psycopg.OperationalError("password authentication failed"))


def test_what_a_pooler_says_of_itself_has_one_code_for_all():
    """Want of places is told by the words; other breaches of the protocol are none."""
    in_vain = psycopg.errors.ProtocolViolation("query_wait_timeout")

    assert errors.is_crowded(in_vain)
    assert errors.is_transient(in_vain)
    assert "pool_size" in errors.words(in_vain)
    assert not errors.is_crowded(psycopg.errors.ProtocolViolation("broken packet"))


def test_who_waits_in_vain_for_a_lock_is_told_what_may_hold_it(source, run):
    """The server says only that it was too long."""
    run(source, "create table t (id int)")
    with psycopg.connect(source) as holding, psycopg.connect(source) as waiting:
        holding.execute("lock table t in access exclusive mode")
        waiting.execute("set lock_timeout = '10ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
            waiting.execute("select * from t")

    assert errors.is_transient(refused.value)
    assert "(TRUNCATE, ALTER TABLE, REINDEX)" in errors.words(refused.value)


def test_what_is_known_of_a_commit_that_ended_in_an_error():
    """What is no session's end is an answer, also where it is no error of the server's."""
    assert errors.is_rolled_back(TransferError("the target answered ROLLBACK to COMMIT"))
    assert not errors.is_rolled_back(psycopg.OperationalError("the connection is lost"))
