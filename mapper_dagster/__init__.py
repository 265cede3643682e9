"""Mappings, as Dagster assets: partitioned by load window, with row counts from the ledger."""

from .assets import build_mapping_asset, build_source_specs
from .checks import build_mapping_checks
from .component import MappingComponent
from .jobs import build_job_asset
from .mapping import Mapping
from .resources import DatabaseResource, MapperResource
from .schedules import build_mapping_schedule
from .sensors import build_load_request_sensor, build_resume_sensor, build_watermark_sensor
from .translator import MappingTranslator

__all__ = [
    "DatabaseResource",
    "MapperResource",
    "Mapping",
    "MappingComponent",
    "MappingTranslator",
    "build_job_asset",
    "build_load_request_sensor",
    "build_mapping_asset",
    "build_mapping_checks",
    "build_mapping_schedule",
    "build_resume_sensor",
    "build_source_specs",
    "build_watermark_sensor",
]
