"""Other ways to load, each a script for an environment of its own: `... SOURCE TARGET QUERY [change]`.

Each reads the query's rows from the source and adds them to the target's `lineitem`, as fast as its
own documentation says it can; with `change`, those that can change rows on the way do so.
"""
