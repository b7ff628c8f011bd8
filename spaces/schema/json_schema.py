"""Creates the JSON schema of spaces and recipes, for editors. It is the typed schema, with a domain allowed in place of any value."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel

from winnow.spaces import schema
from winnow.spaces.grammar.parse import DATA_KEYS_THAT_MAY_BE_OPEN
from winnow.spaces.schema.fields import IMPORT_PATH

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/$defs/"


def json_schema() -> Json:
    """Return the JSON schema of a whole file: the config keys, and `search`, `retrain`, `start_from`, `baseline`, `reference`."""
    whole, definitions = described()
    _allow_short_names(whole, definitions)
    families = {
        name: _families(definition, definitions) for name, definition in {**definitions, "Config": whole}.items()
    }
    for name, definition in {**definitions, "Config": whole}.items():
        _open_properties(name, definition, families[name], definitions)
    return {
        "$schema": DIALECT,
        "title": "A Winnow space or recipe",
        "type": "object",
        "properties": {**whole["properties"], **_sections()},
        "required": whole["required"],
        "anyOf": [{"required": ["optimizer"]}, {"required": ["train"]}],
        "additionalProperties": False,
        "$defs": {**definitions, **_without_names(definitions), **_domains()},
    }


def described() -> tuple[Json, Json]:
    """Return the JSON schema of a config without open values, and its definitions.

    The string below a field in the source code is its description.
    """
    whole = schema.Config.model_json_schema(ref_template=REFERENCE + "{model}")
    definitions = whole.pop("$defs")
    for name, definition in {**definitions, "Config": whole}.items():
        _describe(definition, getattr(schema, name))
    return whole, definitions


def section(model: type[BaseModel]) -> Json:
    """Return the JSON schema of a section beside the config, such as `search`, with its descriptions."""
    definition = model.model_json_schema(ref_template=REFERENCE + "{model}")
    for name, inner in definition.pop("$defs", {}).items():
        _describe(inner, getattr(schema, name))
        definition = _with_definition(definition, REFERENCE + name, inner)
    _describe(definition, model)
    return definition


def _with_definition(part: Any, reference: str, definition: Json) -> Any:
    """Return a part of a JSON schema with the definition in the place of each reference to it."""
    if isinstance(part, list):
        return [_with_definition(each, reference, definition) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("$ref") == reference:
        return definition
    return {key: _with_definition(each, reference, definition) for key, each in part.items()}


def _describe(definition: Json, model: type) -> None:
    for base in reversed(model.__mro__):
        for field, text in _texts_of_fields(base.__module__).get(base.__name__, {}).items():
            if field in definition.get("properties", {}):
                definition["properties"][field]["description"] = text


@cache
def _texts_of_fields(module: str) -> dict[str, dict[str, str]]:
    """Return the string below each field of a schema module, by class and field."""
    if not module.startswith(schema.__name__):
        return {}
    texts: dict[str, dict[str, str]] = {}
    for definition in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(definition, ast.ClassDef):
            continue
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            text = _text_of(below)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text is not None:
                texts.setdefault(definition.name, {})[field.target.id] = text
    return texts


def _text_of(node: ast.stmt) -> str | None:
    match node:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return text
    return None


def _allow_short_names(config: Json, definitions: Json) -> None:
    """Allow `schedule: cosine` for `{name: cosine}`, and `augment: flip_crop` for a preset."""
    optimizer = config["properties"]["optimizer"]
    # Only recorded configs, which contain every key, may have null.
    optimizer["oneOf"] = optimizer.pop("anyOf")[0]["oneOf"]
    for key in ("schedule", "loss", "mix", "averaging"):
        union = config["properties"][key]
        names = _short_names(_members(union), definitions)
        union["anyOf"] = [*(union.pop("oneOf", None) or union["anyOf"]), *names]
    for key in ("initialization", "train", "own_metric"):
        config["properties"][key]["anyOf"].append({"type": "string", "pattern": IMPORT_PATH})
    data = definitions["Data"]
    config["properties"]["data"] = {"anyOf": [config["properties"]["data"], data["properties"]["name"]]}
    for owner in (data, definitions["ExtraCopies"]):
        augment = owner["properties"]["augment"]
        steps = _short_names(_members(augment["items"]), definitions)
        augment["items"] = {"anyOf": [*augment["items"]["oneOf"], *steps]}
        owner["properties"]["augment"] = {"anyOf": [augment, {"enum": [*schema.AUGMENTATION_PRESETS]}, *steps]}


def _short_names(members: list[str], definitions: Json) -> list[Json]:
    """Return the schemas of the bare names that stand for a mapping with that name."""
    names = [*_family(members, definitions)]
    own = [{"type": "string", "pattern": IMPORT_PATH}] if "custom" in names else []
    return [{"enum": [name for name in names if name != "custom"]}, *own]


def _families(definition: Json, definitions: Json) -> dict[str, dict[str, str]]:
    """Return the properties that are one of several named mappings, with the definition of each name."""
    return {
        key: _family(members, definitions)
        for key, value in definition.get("properties", {}).items()
        if len(members := _members(value)) > 1
    }


def _members(value: Json) -> list[str]:
    """Return the names of the definitions that a property may refer to."""
    options = value.get("oneOf") or value.get("anyOf") or []
    options = [inner for option in options for inner in option.get("oneOf", [option])]  # for those that may be null
    return [option["$ref"].removeprefix(REFERENCE) for option in options if "$ref" in option]


def _family(members: list[str], definitions: Json) -> dict[str, str]:
    """Return the definition of each name. A model named by an import path has the name `custom`."""
    return {definitions[member]["properties"]["name"].get("const", "custom"): member for member in members}


def _open_properties(name: str, definition: Json, families: dict[str, dict[str, str]], definitions: Json) -> None:
    """Allow a domain in place of each value, except names and the keys that decide which data are loaded."""
    for key, value in definition.get("properties", {}).items():
        value.pop("discriminator", None)
        is_fixed = key == "name" or (name == "Data" and key not in DATA_KEYS_THAT_MAY_BE_OPEN)
        if is_fixed or (name == "Config" and key == "data"):
            continue
        if value.get("type") == "array":
            value["items"] = {"anyOf": [value["items"], {"$ref": REFERENCE + "Domain"}]}
        about = {word: value.pop(word) for word in ("description", "default", "title") if word in value}
        options = value.get("oneOf") or value.get("anyOf") or [value]
        domains = [{"$ref": REFERENCE + "Domain"}]
        if key in families:
            domains = [_choice_of_families(families[key]), {"$ref": REFERENCE + "Range"}]
        definition["properties"][key] = {**about, "anyOf": [*options, *domains]}


def _choice_of_families(family: dict[str, str]) -> Json:
    settings = {name: {"$ref": f"{REFERENCE}{model}Settings"} for name, model in family.items()}
    custom = {IMPORT_PATH: settings.pop("custom")} if "custom" in settings else {}
    by_name = {
        "type": "object",
        "properties": settings,
        "patternProperties": custom,
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {
        "type": "object",
        "properties": {"choice": {"anyOf": [by_name, {"type": "array", "minItems": 1}]}},
        "required": ["choice"],
        "additionalProperties": False,
    }


def _without_names(definitions: Json) -> Json:
    """Return the settings of each named mapping as they are written in a choice of sub-spaces, where the key is the name."""
    by_name = {}
    for name, definition in definitions.items():
        if "name" not in definition.get("properties", {}):
            continue
        settings = copy.deepcopy(definition)
        del settings["properties"]["name"]
        settings["required"] = [key for key in settings.get("required", []) if key != "name"]
        by_name[f"{name}Settings"] = settings
    return by_name


def _sections() -> Json:
    recipes = {"type": "object", "additionalProperties": {"type": "object"}}
    names = {"type": "array", "items": {"type": "string"}}
    sections: tuple[type[BaseModel], ...] = (schema.SearchSettings, schema.RetrainSettings, schema.Reference)
    search, retrain, reference = map(section, sections)
    objective = search["properties"]["objective"]
    metrics = {key: objective.pop(key) for key in ("enum", "type")}
    objective["anyOf"] = [metrics, {"type": "string", "pattern": IMPORT_PATH}]
    return {
        "search": search,
        "retrain": retrain,
        "reference": reference,
        "start_from": {"anyOf": [names, recipes], "description": "Known-good recipes, tried first."},
        "baseline": {
            "anyOf": [{"type": "string"}, recipes],
            "description": "The recipe that winners are compared with.",
        },
    }


def _domains() -> Json:
    bounds = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    whole_bounds = {**bounds, "items": {"type": "integer"}}
    sub_spaces = {"type": "object", "additionalProperties": {"type": "object"}, "minProperties": 1}
    options = {"anyOf": [{"type": "array", "minItems": 1}, sub_spaces]}
    count = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
    number = {"type": "number", "exclusiveMinimum": 0}
    ranges = [
        _domain({"int": whole_bounds, "step": {"type": "integer", "minimum": 1}}, ["int"]),
        _domain({"float": bounds, "step": number}, ["float"]),
        _domain({"log": bounds, "step": {"type": "number", "exclusiveMinimum": 1}}, ["log"]),
        _domain({"repeat": count, "of": {}}, ["repeat", "of"]),
    ]
    choice = _domain({"choice": options}, ["choice"])
    return {"Range": {"anyOf": ranges}, "Domain": {"anyOf": [choice, {"$ref": REFERENCE + "Range"}]}}


def _domain(properties: Json, required: list[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
