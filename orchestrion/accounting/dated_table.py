"""Figures that were looked up or measured, in YAML files that an operator may replace by their own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrion.errors import InvalidRequest, Problem, shown


class DatedTable(BaseModel):
    """A table of figures, each with its date and source. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    #: The file that ships with the project, and the setting that names another.
    shipped_as: ClassVar[str]
    named_by: ClassVar[str]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """Read a table, by default the one that ships with the project.

        Raises:
            InvalidRequest: there is no such file, it is no YAML, or a field of it is unknown, missing or out of range.
        """
        source = Path(path) if path is not None else files("orchestrion.accounting") / cls.shipped_as
        try:
            return cls.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidRequest.of(cls.named_by, str(path), f"cannot be read as YAML: {error}") from error
        except ValidationError as error:
            raise InvalidRequest(
                [
                    Problem(".".join(map(str, detail["loc"])) or cls.named_by, shown(detail["input"]), detail["msg"])
                    for detail in error.errors(include_url=False)
                ]
            ) from None
