"""What a load will do, decided before a row moves; and what becomes of that when it goes on later.

A `planner` decides, over the `strategies` that divide a query; `sizing` says how many rows make a
chunk; `resumption` takes up what the ledger has of a load that was planned before.
"""
