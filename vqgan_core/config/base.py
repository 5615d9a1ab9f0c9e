"""What every config of Tessera shares: validation, loading, and the recipe that enters a fingerprint.

A config has two halves. The *recipe* says what is computed and enters the fingerprint; the *execution* says how
(device, threads, cadences) and does not. A field that holds an `ExecutionConfig` is execution, all others are recipe.

A field that came after the first artifacts is marked `LATER`: it enters the recipe only where it departs from its
default, so that what was made before keeps its fingerprint. A field that names an artifact is marked `INPUT`: what
enters the fingerprint is the artifact's digest, among the inputs, whatever it is called in the config.

Precedence: defaults < preset YAML < overrides. Environment variables never say *what* is computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = [
    "INPUT",
    "LATER",
    "Config",
    "ConfigError",
    "ExecutionConfig",
    "canonical_json",
    "merge",
    "parse_override",
    "sha256_json",
    "variant_of",
]

LATER: Final = "later"
"""Marks a field in its annotation: `Annotated[int, LATER]`."""
INPUT: Final = "input"
"""Marks a field that names an artifact: `Annotated[str | None, INPUT]`."""


class ConfigError(ValueError):
    """A config that cannot be used: says which field, what was given and what is allowed."""


class Config(BaseModel):
    """Base of all configs: frozen, no unknown keys, every field documented by the docstring under it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def recipe(self, *, complete: bool = False) -> dict[str, Any]:
        """The JSON-ready dump of the validated config without its execution half: what enters a fingerprint.

        Args:
            complete: with the later fields that hold their default, which enter none.
        """
        dump = self.model_dump(mode="json")
        left_out = {
            name
            for name in dump
            if _is_execution(self, name) or (not complete and _is_unchanged_later(self, name)) or _is_input(self, name)
        }
        return {name: _recipe_of(getattr(self, name), dump[name], complete) for name in dump if name not in left_out}

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Self:
        """Build the config from a YAML file and dotted overrides.

        Args:
            path: a YAML file, or None for the defaults alone.
            overrides: `["a.b=1", …]` as on a command line, or `{"a.b": 1}`.

        Raises:
            ConfigError: the file is missing or no mapping, or a field is unknown or out of its bounds.
        """
        values = _read_yaml(path) if path is not None else {}
        pairs = overrides.items() if isinstance(overrides, Mapping) else map(parse_override, overrides)
        for key, value in pairs:
            values = merge(values, key, value)
        return cls.validated(values, origin=str(path) if path is not None else "the given values")

    @classmethod
    def validated(cls, values: Mapping[str, Any], *, origin: str) -> Self:
        """Validate plain values, with errors in one line that name the field, the value and what is allowed."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(error, origin)) from None


class ExecutionConfig(Config):
    """How a stage runs on a machine; nothing here may change its numbers, and nothing here enters a fingerprint."""


def canonical_json(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, no NaN, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key.path=value`; the value is read as YAML, so `1e-4`, `true`, `[1, 2]` and `null` mean what they say."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"override {text!r}: expected key.path=value, for example tokenizer.codebook_size=512")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r}: the value is not YAML ({str(error).splitlines()[0]})") from None


def merge(values: Mapping[str, Any], dotted_key: str, value: Any) -> dict[str, Any]:
    """Return `values` with one dotted key replaced, which then comes last in its section.

    Changing the `kind` of a variant drops the other variant's fields: they would not fit the new one.
    """
    head, _, rest = dotted_key.partition(".")
    merged = dict(values)
    if rest:
        child = merged.get(head)
        merged[head] = merge(child if isinstance(child, Mapping) else _as_kind(child), rest, value)
    elif head == "kind" and merged.get("kind") != value:
        merged = {"kind": value}
    else:
        merged.pop(head, None)
        merged[head] = value
    return merged


def variant_of(default: str) -> Callable[[Any], Any]:
    """A reader for a union of variants: `none` is the kind none, and fields without a kind are of the default kind."""

    def read(value: Any) -> Any:
        if value in ("none", None):
            return {"kind": "none"}
        return {"kind": default, **value} if isinstance(value, dict) else value

    return read


def _as_kind(value: Any) -> dict[str, Any]:
    return {"kind": value} if isinstance(value, str) else {}


def _is_execution(config: BaseModel, name: str) -> bool:
    return isinstance(getattr(config, name), ExecutionConfig)


def _is_unchanged_later(config: BaseModel, name: str) -> bool:
    field = type(config).model_fields[name]
    return LATER in field.metadata and getattr(config, name) == field.get_default(call_default_factory=True)


def _is_input(config: BaseModel, name: str) -> bool:
    return INPUT in type(config).model_fields[name].metadata


def _recipe_of(value: Any, dumped: Any, complete: bool) -> Any:
    if isinstance(value, dict):
        return {name: _recipe_of(item, dumped[name], complete) for name, item in value.items()}
    return value.recipe(complete=complete) if isinstance(value, Config) else dumped


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror or error}") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of fields at the top, got {type(values).__name__}")
    return values


def _explain(error: ValidationError, origin: str) -> str:
    parts = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"]) or "(top)"
        if item["type"] == "extra_forbidden":
            parts.append(f"{field}: there is no such field")
        else:
            parts.append(f"{field}: {item['msg'][0].lower()}{item['msg'][1:]}, got {_short(item['input'])}")
    return f"{origin}: " + "; ".join(parts)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
