"""What SkyPilot and KubeRay accept, reduced to the keys that the files of `winnow launch` have.

Both refuse a key that they do not know: SkyPilot by its JSON schema, Kubernetes by the strict validation of `kubectl apply`. The types and
required keys below were read in their sources, with these versions:

- SkyPilot 0.14.1: `get_task_schema` and `get_resources_schema` of sky/utils/schemas.py, the names in sky/task.py and sky/skylet/constants.py. On
  2026-11-30 `sky.Task.from_yaml_config` of that package itself took the files, without and with `--mps`.
- KubeRay: rayjob_types.go and raycluster_types.go of ray-operator/apis/ray/v1, and the checks of the operator in
  ray-operator/controllers/ray/utils/validation.go. Some of these files are older than the newest release, and KubeRay's schema has not been run.
  The templates of pods are those of Kubernetes' core/v1.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
TRUTH = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
"""A map of texts: `num-gpus: 0` would be refused, `num-gpus: "0"` is taken."""
SUFFIXES = "[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+"
QUANTITIES = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": "integer"}, {"type": "string", "pattern": rf"^[0-9]+(\.[0-9]+)?({SUFFIXES})?$"}]
    },
}


def _keys(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


VARIABLE = "^[a-zA-Z_][a-zA-Z0-9_]*$"
VARIABLES = {
    "type": "object",
    "patternProperties": {VARIABLE: {"type": ["string", "null"]}},
    "additionalProperties": False,
}
SKY_RESOURCES = _keys(
    accelerators={"anyOf": [TEXT, {"type": "object"}, {"type": "array", "items": TEXT}]},
    cpus={"type": ["string", "number"]},
    memory={"type": ["string", "number"]},
    use_spot=TRUTH,
    image_id={"type": ["string", "object", "null"]},
    infra=TEXT,
)
SKY_TASK = _keys(
    name=TEXT,
    num_nodes={"type": "integer"},
    workdir=TEXT,
    resources=SKY_RESOURCES,
    envs=VARIABLES,
    secrets={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    setup=TEXT,
    run=TEXT,
)
SKY_TASK_NAME = r"[a-z0-9]+(?:[._-]{1,2}[a-z0-9]+)*"
SKY_CLUSTER_NAME = r"[a-zA-Z]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?"

CONTAINER = _keys(
    ("name",),
    name=TEXT,
    image=TEXT,
    resources=_keys(requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=_list(_keys(("name", "mountPath"), name=TEXT, mountPath=TEXT, readOnly=TRUTH)),
)
TOLERATION = _keys(
    key=TEXT,
    operator={"enum": ["Exists", "Equal"]},
    value=TEXT,
    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
)
VOLUME = _keys(
    ("name",), name=TEXT, persistentVolumeClaim=_keys(("claimName",), claimName=TEXT, readOnly=TRUTH), emptyDir={}
)
POD = _keys(
    ("containers",),
    containers=_list(CONTAINER),
    volumes=_list(VOLUME),
    nodeSelector=TEXTS,
    tolerations=_list(TOLERATION),
    restartPolicy={"enum": ["Never", "Always", "OnFailure"]},
)
TEMPLATE = _keys(spec=POD, metadata={"type": "object"})
RAY_CLUSTER = _keys(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=_keys(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=TRUTH,
    headGroupSpec=_keys(("template", "rayStartParams"), template=TEMPLATE, rayStartParams=TEXTS),
    workerGroupSpecs=_list(
        _keys(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
RAY_JOB = _keys(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_keys(("name",), name=TEXT, namespace=TEXT, labels=TEXTS),
    spec=_keys(
        ("rayClusterSpec",),
        entrypoint=TEXT,
        shutdownAfterJobFinishes=TRUTH,
        ttlSecondsAfterFinished=COUNT,
        backoffLimit=COUNT,
        rayClusterSpec=RAY_CLUSTER,
    ),
)
RAY_JOB_NAME = r"(?=.{1,47}$)[a-z]([-a-z0-9]*[a-z0-9])?"
"""A label by RFC 1035; longer ones are refused, since names of pods are made from them."""
FIRST_RAY_WITH_TOKENS = (2, 52)
"""`authOptions` needs `rayVersion`, and at least this one."""
