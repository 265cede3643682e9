"""Execute a job of `deployment` in this process and its steps in theirs; a test's run worker.

Prints, as its last line, the run's id and whether it succeeded, as JSON. A process of its own,
because the forkserver that steps come from keeps the environment it was started with.
"""

import argparse
import json
import sys

import dagster as dg

from . import deployment


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("--tag", action="append", default=[])
    parser.add_argument("--parent")
    parser.add_argument("--from-failure", action="store_true")
    given = parser.parse_args()
    with dg.DagsterInstance.get() as instance:
        again = None
        if given.from_failure:
            again = dg.ReexecutionOptions.from_failure(given.parent, instance)
        elif given.parent:
            again = dg.ReexecutionOptions(parent_run_id=given.parent)
        result = dg.execute_job(
            dg.reconstructable(getattr(deployment, given.job)),
            instance=instance,
            tags=dict(tag.split("=", 1) for tag in given.tag) or None,
            reexecution_options=again,
        )
        told = {"run_id": result.run_id, "success": result.success}
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
