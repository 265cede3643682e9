"""What a load will do, decided before a row moves; and what becomes of that when it goes on later.

A `planner` decides, over the `strategies` that divide a query; `sizing` says how many rows make a
chunk. `recording` stores the plan in the ledger, or takes up the one that is there; `resumption`
says what must be unchanged for that.
"""
