"""Requirements on the figures of a result, for build scripts: `quality>=0.9`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cascade.core.errors import ConfigurationError, RequirementNotMet
from cascade.core.text.suggestions import did_you_mean, listed

__all__ = ["Requirement", "parse_requirement", "require"]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*(?P<name>\S.*?)\s*(?P<operator>>=|<=|==|>|<)\s*(?P<number>[^\s<>=]+)\s*")


@dataclass(frozen=True, slots=True)
class Requirement:
    """`name` is a numeric field of the JSON result, with dots for nested fields."""

    text: str
    name: str
    operator: str
    number: float

    def check(self, figures: Mapping[str, float | None], where: str) -> None:
        """Raises RequirementNotMet if the figure fails or is unknown, ConfigurationError if there is no such figure."""
        if self.name not in figures:
            top = [name for name in figures if "." not in name]
            meant = did_you_mean(self.name, figures)
            raise ConfigurationError(
                f"--require {self.text}: there is no figure {self.name!r} ({meant}use {listed(top)}, or a dotted name inside"
                " another field of --json)"
            )
        value = figures[self.name]
        if value is None:
            raise RequirementNotMet(f"{where}: {self.text} is not met: {self.name} is not known for this corpus")
        if not _OPERATORS[self.operator](value, self.number):
            raise RequirementNotMet(f"{where}: {self.text} is not met: {self.name} is {value:.6g}")


def parse_requirement(text: str) -> Requirement:
    """Parse a name, one of >= <= > < ==, and a number. Raises ConfigurationError."""
    found = _FORM.fullmatch(text)
    try:
        if found:
            return Requirement(text, found["name"], found["operator"], float(found["number"]))
    except ValueError:
        pass
    raise ConfigurationError(
        f"--require {text}: not a requirement (write a figure, one of >= <= > < ==, and a number: 'quality>=0.9')"
    )


def require(requirements: Sequence[Requirement], result: Mapping[str, Any], where: str) -> None:
    """Check each requirement against a result's numeric fields. Raises RequirementNotMet for the first that fails."""
    figures = dict(_flat(result, ""))
    for requirement in requirements:
        requirement.check(figures, where)


def _flat(value: object, name: str) -> Iterator[tuple[str, float | None]]:
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, object]", value).items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(cast("Sequence[object]", value)):
            yield from _flat(inner, f"{name}.{number}")
    elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        yield name, value
