"""`cluster.yaml` against Ray's own schema, and against what Winnow says of it."""

from __future__ import annotations

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.conftest import REPOSITORY


def cluster() -> dict:
    return yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())


def test_ray_accepts_it():
    prepared = prepare_config(cluster())  # fills in Ray's own defaults
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu-worker"]["max_workers"] == 8


def test_workers_scale_from_none_and_are_spot():
    worker = cluster()["available_node_types"]["gpu-worker"]
    assert worker["min_workers"] == 0
    assert worker["resources"]["GPU"] >= 1
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert cluster()["available_node_types"]["head"]["resources"]["GPU"] == 0
