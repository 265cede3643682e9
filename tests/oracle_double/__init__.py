"""A double of Oracle for the real driver: the wire protocol in Python, the SQL in H2.

python-oracledb in its thin mode, unmodified, connects over a socket to a process of this package
(`python -m tests.oracle_double`), which presents itself as a 19c server. SQL runs in H2's Oracle
mode (h2database.com) inside a Java machine of that process; what H2 lacks is in `dialect` (SQL),
`catalog` (the data dictionary) and `h2` (SCNs, rowids, locks, PL/SQL blocks).

What it can prove: this project's code against the real driver, with types, binds, arrays, LOBs,
error objects, reconnects and faults at any moment. What it cannot: that a real Oracle takes the
same SQL, nor its plans, locks, undo, privileges, character sets. So every test that runs on it runs
on a real server too, where `ORACLE_TEST_DSN` names one.

Strict: a statement, block, parameter or type that it does not know is an error that nobody expects.
Speed is a hundredth of Oracle's and says nothing about it.
"""
