"""Mappings, as Dagster assets: partitioned by load window, with row counts from the ledger."""

from .assets import build_mapping_asset
from .mapping import Mapping
from .resources import DatabaseResource, MapperResource

__all__ = ["DatabaseResource", "MapperResource", "Mapping", "build_mapping_asset"]
