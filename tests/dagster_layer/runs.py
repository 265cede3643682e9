"""What came of a run in a process of its own, and what its load has done so far."""

import json


def ended(process):
    """Wait for a run; return its id and whether it succeeded."""
    output, _ = process.communicate()
    told = json.loads(output.splitlines()[-1])
    return told["run_id"], told["success"]


def finished_chunks(run, target):
    """Return how many chunks the ledger says are finished."""
    (there,) = run(target, "select to_regclass('mapper.claim') is not null")[0]
    return there and run(target, "select count(*) from mapper.claim where done = 1")[0][0]
