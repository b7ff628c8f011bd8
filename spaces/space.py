"""A space: what may be trained, and how a config is drawn from it. A recipe is a space with nothing left open."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

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
    """Picklable; equal where name, source and tree are. Make one with `catalog.load` or `Space.from_tree`."""

    name: str
    source: str
    tree: dict[str, Any]
    """Plain and complete: overrides applied, recipes written out; `from_tree` gives an equal space back."""
    root: Group = field(compare=False, repr=False)
    source_map: SourceMap = field(compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What the user should know, such as a start point that an override left outside the space."""

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], source: str, source_map: SourceMap | None = None) -> Space:
        """Parse a plain tree; raises SpaceError where a domain is written wrongly. Values are not checked (`check`)."""
        source_map = source_map or SourceMap(source)
        root, problems = parse.parse(tree)
        refuse(problems, source_map)
        return cls(PurePath(source).stem, source, copy.deepcopy(dict(tree)), root, source_map)

    # --- what is searched -----------------------------------------------------------------------------------------------

    def suggest(self, trial: SuggestsValues) -> dict[str, Any]:
        """A raw config; parameters are drawn in a fixed order."""
        return nodes.draw(self.root, trial)

    def encode(self, config: dict[str, Any]) -> dict[str, Stored]:
        """Study parameters that suggest this config, raw or complete; SpaceError with the path where it is outside."""
        from winnow.spaces.encoding import encode

        return encode(self.root, config)

    @cached_property
    def _parameters(self) -> list[Parameter]:
        return nodes.parameters(self.root)

    def parameters(self) -> list[Parameter]:
        return list(self._parameters)

    def columns(self) -> dict[str, ArrowKind]:
        """Type of the values at each open config path, all branches merged."""
        return nodes.columns(self._parameters)

    def size(self) -> int | float:
        """Number of different configs, buildable or not; infinity where a range is continuous."""
        return nodes.size(self.root)

    @property
    def is_recipe(self) -> bool:
        return not self._parameters

    @property
    def max_epochs(self) -> int:
        epochs = self.root.children["epochs"]
        return int(max(epochs.domain.ends()) if isinstance(epochs, Open) else getattr(epochs, "value", 0))

    # --- how it is searched ---------------------------------------------------------------------------------------------

    @property
    def settings(self) -> SearchSettings:
        from winnow.spaces.schema import SearchSettings

        return SearchSettings(**self.tree.get("search") or {})

    @property
    def retrain(self) -> RetrainSettings:
        from winnow.spaces.schema import RetrainSettings

        return RetrainSettings(**self.tree.get("retrain") or {})

    @property
    def reference(self) -> Reference | None:
        """The published experiment that a recipe states, if it states one."""
        from winnow.spaces.schema import Reference

        given = self.tree.get("reference")
        return None if given is None else Reference(**given)

    def start_from_named(self) -> list[tuple[str, dict[str, Any]]]:
        """(recipe name, raw config) of the known-good points to try first; `encode` accepts them."""
        return list(copy.deepcopy(self.tree.get("start_from") or {}).items())

    def baseline_named(self) -> tuple[str, dict[str, Any]] | None:
        """The recipe that winners are held against: `baseline`, else the first of `start_from`."""
        named = self.tree.get("baseline") or {}
        return next(iter([*copy.deepcopy(named).items(), *self.start_from_named()]), None)

    @property
    def baseline(self) -> dict[str, Any] | None:
        named = self.baseline_named()
        return named[1] if named else None

    def example(self) -> Config:
        """Some valid config. What the space fixes, such as what `data` loads, is the same in all of them."""
        from winnow.spaces.stub_trials import completions

        for trial in completions({}, num_random=200):
            config, problems = validate(nodes.draw(self.root, trial))
            if config is not None:
                return config
        refuse((self.located(problem, {}) for problem in problems), self.source_map)
        raise SpaceError(f"{self.source}: no config of this space is valid")

    # --- whether a config is fine ---------------------------------------------------------------------------------------

    def config(
        self, raw: dict[str, Any], image_shape: ImageShape | None = None, num_classes: int | None = None
    ) -> Config:
        """The validated config; with an image shape (channels, height, width) sizes are checked too. Raises SpaceError."""
        config, problems = validate(raw, image_shape)
        refuse((self.located(problem, raw) for problem in problems), self.source_map)
        if config is None:
            raise SpaceError(f"{self.source}: not a config")
        return config

    def infeasible(self, raw: dict[str, Any], image_shape: ImageShape | None) -> str | None:
        """Why a sampled combination cannot be built, or None. Well under a millisecond."""
        problems = validate(raw, image_shape)[1]
        return problems[0].render(SourceMap("")).removeprefix(": ") if problems else None

    def located(self, problem: Problem, raw: dict[str, Any]) -> Problem:
        """The same problem of the config `raw` with the key path in the file."""
        path = nodes.locate(self.root, raw, problem.path)
        return Problem(path, problem.message, problem.of_combination)


def validate(raw: dict[str, Any], image_shape: ImageShape | None = None) -> tuple[Config | None, list[Problem]]:
    """The config, or why there is none; problems have key paths of the config."""
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
