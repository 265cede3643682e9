"""A sensor that ticks as the daemon has it."""

from typing import Any

import dagster as dg

from mapper_dagster import build_mapping_asset


class Ticking:
    """A sensor in its place among definitions, its cursor, and its latest words."""

    def __init__(self, sensor, mapping, instance, resources, others=()):
        self.sensor, self.instance = sensor, instance
        self.cursor = None
        self.words: Any = None
        self.defs = dg.Definitions(
            assets=[build_mapping_asset(each) for each in (mapping, *others)],
            sensors=[sensor],
            resources=resources,
        )

    def tick(self):
        """Have it look; return the runs that it asks for."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=self.defs,
            resources=self.defs.resources,
        ) as context:
            told = self.sensor.evaluate_tick(context)
        self.cursor, self.words = told.cursor, told.skip_message
        return list(told.run_requests or ())
