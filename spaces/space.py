"""Defines a space of configs and how a config is drawn from it. A recipe is a space that leaves no value open."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from winnow.spaces.epoch_figures import OWN_METRIC
from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar import nodes, parse
from winnow.spaces.grammar.domains import ArrowKind, Stored, SuggestsValues
from winnow.spaces.grammar.nodes import AtLeast, Group, Open, Parameter
from winnow.spaces.grammar.problems import Problem, SourceMap, refuse
from winnow.spaces.shapes import ImageShape, ShapeError

if TYPE_CHECKING:
    from winnow.spaces.schema import Config, Reference, RetrainSettings, SearchSettings

__all__ = ["AtLeast", "Parameter", "Space"]


@dataclass(frozen=True)
class Space:
    """A space of configs, created with `catalog.load` or `Space.from_tree`.

    It can be pickled. Spaces are equal if name, source and tree are.
    """

    name: str
    source: str
    tree: dict[str, Any]
    """The space as plain values, with overrides applied and recipes written out; `from_tree` creates an equal space from it."""
    root: Group = field(compare=False, repr=False)
    source_map: SourceMap = field(compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Notes for the user, such as a start point that an override left outside the space."""

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], source: str, source_map: SourceMap | None = None) -> Space:
        """Parse a plain tree. Values are not checked; `validation.check` does that.

        Args:
            tree: The content of a space file.
            source: Name of the file, for messages.
            source_map: Lines of the keys, for messages. Default: messages name only the source.

        Raises:
            SpaceError: A domain is written wrongly.
        """
        source_map = source_map or SourceMap(source)
        tree = _with_own_objective(tree, source)
        root, problems = parse.parse(tree)
        refuse(problems, source_map)
        return cls(PurePath(source).stem, source, copy.deepcopy(dict(tree)), root, source_map)

    # --- what is searched -----------------------------------------------------------------------------------------------

    def suggest(self, trial: SuggestsValues) -> dict[str, Any]:
        """Draw a raw config from a trial. Parameters are drawn in a fixed order."""
        return nodes.draw(self.root, trial)

    def encode(self, config: dict[str, Any]) -> dict[str, Stored]:
        """Return the study parameters that draw a raw or complete config.

        Raises:
            SpaceError: The config is outside the space.
        """
        from winnow.spaces.encoding import encode

        return encode(self.root, config)

    @cached_property
    def _parameters(self) -> list[Parameter]:
        return nodes.parameters(self.root)

    def parameters(self) -> list[Parameter]:
        """Return all parameters in the order in which they are drawn."""
        return list(self._parameters)

    def columns(self) -> dict[str, ArrowKind]:
        """Return the type of the values at each open config path, over all branches."""
        return nodes.columns(self._parameters)

    def size(self) -> int | float:
        """Return the number of different configs, whether or not they can be built; infinity if a range is continuous."""
        return nodes.size(self.root)

    @property
    def is_recipe(self) -> bool:
        """Whether the space leaves no value open."""
        return not self._parameters

    @property
    def max_epochs(self) -> int:
        """The largest number of epochs of a config."""
        epochs = self.root.children["epochs"]
        return int(max(epochs.domain.ends()) if isinstance(epochs, Open) else getattr(epochs, "value", 0))

    # --- how it is searched ---------------------------------------------------------------------------------------------

    @property
    def settings(self) -> SearchSettings:
        """The `search` section."""
        from winnow.spaces.schema import SearchSettings

        return SearchSettings(**self.tree.get("search") or {})

    @property
    def retrain(self) -> RetrainSettings:
        """The `retrain` section."""
        from winnow.spaces.schema import RetrainSettings

        return RetrainSettings(**self.tree.get("retrain") or {})

    @property
    def reference(self) -> Reference | None:
        """The published experiment that a recipe reproduces, if any."""
        from winnow.spaces.schema import Reference

        section = self.tree.get("reference")
        return None if section is None else Reference(**section)

    def start_from_named(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (recipe name, raw config) of the start points, which are tried first; `encode` accepts them."""
        return list(copy.deepcopy(self.tree.get("start_from") or {}).items())

    def baseline_named(self) -> tuple[str, dict[str, Any]] | None:
        """Return (name, raw config) of the recipe that winners are compared with: `baseline`, or the first of `start_from`."""
        named = self.tree.get("baseline") or {}
        return next(iter([*copy.deepcopy(named).items(), *self.start_from_named()]), None)

    @property
    def baseline(self) -> dict[str, Any] | None:
        """The raw config of the recipe that winners are compared with."""
        named = self.baseline_named()
        return named[1] if named else None

    def example(self) -> Config:
        """Return some valid config. Keys that the space fixes, such as those that select the data, are the same in all configs."""
        from winnow.spaces.stub_trials import completions

        for trial in completions({}, num_random=200):
            config, problems = validate(nodes.draw(self.root, trial))
            if config is not None:
                return config
        refuse((self.located(problem, {}) for problem in problems), self.source_map)
        raise SpaceError(f"{self.source}: no config of this space is valid")

    # --- validation of a config -----------------------------------------------------------------------------------------

    def config(self, raw: dict[str, Any], image_shape: ImageShape | None = None) -> Config:
        """Validate a raw config.

        Args:
            raw: The config as drawn.
            image_shape: (channels, height, width) of the images. Default: sizes are not checked.

        Raises:
            SpaceError: The config is not valid; the message lists all problems.
        """
        config, problems = validate(raw, image_shape)
        refuse((self.located(problem, raw) for problem in problems), self.source_map)
        if config is None:
            raise SpaceError(f"{self.source}: not a config")
        return config

    def infeasible(self, raw: dict[str, Any], image_shape: ImageShape | None) -> str | None:
        """Return the reason why a combination cannot be built; None if it can. This takes well under a millisecond.

        Args:
            raw: A raw config.
            image_shape: (C, H, W) of the images; None if sizes are not checked.
        """
        problems = validate(raw, image_shape)[1]
        return problems[0].render(SourceMap("")).removeprefix(": ") if problems else None

    def located(self, problem: Problem, raw: dict[str, Any]) -> Problem:
        """Return a problem of a config with its key path in the file.

        Args:
            problem: The problem.
            raw: The config that has it.
        """
        path = nodes.locate(self.root, raw, problem.path)
        return Problem(path, problem.message, problem.of_combination)


def validate(raw: dict[str, Any], image_shape: ImageShape | None = None) -> tuple[Config | None, list[Problem]]:
    """Validate a raw config.

    Args:
        raw: A raw config.
        image_shape: (C, H, W) of the images. Default: sizes are not checked.

    Returns:
        The config, or None if it is not valid, and its problems with their key paths in the config.
    """
    from pydantic import ValidationError

    from winnow.spaces.schema import Config
    from winnow.spaces.schema.messages import translate
    from winnow.spaces.shapes import check_shapes

    try:
        config = Config.model_validate(raw)
        if image_shape is not None:
            check_shapes(config, image_shape)
    except ValidationError as error:
        return None, translate(error, raw, Config)
    except ShapeError as error:
        return None, [Problem(error.path, error.reason, of_combination=True)]
    return config, []


def _with_own_objective(tree: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Move an objective that is an import path to `own_metric`, which the trainings compute, and use the name of that metric instead.

    Raises:
        SpaceError: The tree names another function as `own_metric`.
    """
    search = tree.get("search")
    if not isinstance(search, Mapping) or ":" not in str(search.get("objective")):
        return tree
    objective = search["objective"]
    own_metric = tree.get("own_metric", objective)
    name = own_metric.get("name") if isinstance(own_metric, Mapping) else own_metric
    if name != objective:
        raise SpaceError(
            f"{source}: search.objective names the function {objective}, but own_metric names {name}; name one of them"
        )
    return {**tree, "own_metric": own_metric, "search": {**search, "objective": OWN_METRIC}}
