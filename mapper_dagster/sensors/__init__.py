"""What asks for loads by itself: new rows, a table of requests, loads that failed.

Each can be killed between any two of its steps and asked again: what was asked for once carries a
key by which Dagster knows it.
"""

from .requests import build_load_request_sensor
from .resume import build_resume_sensor
from .watermark import build_watermark_sensor

__all__ = ["build_load_request_sensor", "build_resume_sensor", "build_watermark_sensor"]
