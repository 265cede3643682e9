"""Oracle, through oracledb in its thin mode, in both roles.

Rows are read at one SCN, in ranges of rowids or keys, as Arrow record batches or Python rows; they
are written with array DML, and the ledger's rows commit with them.
"""

from .database import connect

__all__ = ["connect"]
