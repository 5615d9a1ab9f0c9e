"""Sidecars: NAME.json beside the image NAME.jpg, with its label and whatever else is known of it.

A sidecar is a second file of its image, so that an image with another sidecar is another entry. It holds a JSON object;
one field of it is the label, the others go into the record's own JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any, NoReturn

from datasets.errors import SourceChanged
from datasets.sorting import SortedRows
from datasets.sources.filesystem import Remote, facts_of
from datasets.sources.listing import Partner, Skipped, SourceEntry, is_image

__all__ = ["SIDECAR", "parse_sidecar", "read_sidecar", "with_sidecars"]

SIDECAR = ".json"
"""Suffix of a sidecar, and its name among an image's second files: no pair can have it."""


def with_sidecars(files: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Images with what is known of their sidecar under `.json`; one without an image `is_orphan`."""
    rows = SortedRows(
        2, ((path.rpartition(".")[0], not path.endswith(SIDECAR), path, facts_of(i)) for path, i in files)
    )
    for _, group in itertools.groupby(rows, key=itemgetter(0)):
        sidecar: dict[str, Any] | None = None
        has_image = False
        for _, is_other, path, facts in group:
            if not is_other:
                sidecar = {"path": path, **facts}
            else:
                has_image |= is_image(path)
                yield path, facts | ({SIDECAR: sidecar} if sidecar is not None else {})
        if sidecar is not None and not has_image:
            yield sidecar["path"], sidecar | {"is_orphan": True}


def read_sidecar(entry: SourceEntry, info: dict[str, Any], remote: Remote, label_field: str) -> SourceEntry | Skipped:
    """An entry with the label that its sidecar gives it; without a sidecar it has none."""
    known = info.get(SIDECAR)
    if known is None:
        return replace(entry, label=None)
    try:
        partner = Partner(SIDECAR, known["path"], int(known["size"]), remote.checksum(known["path"], known))
        label = parse_sidecar(remote.read(partner, partner.path)).get(label_field)
    except (OSError, ValueError) as error:
        if isinstance(error, SourceChanged):
            raise
        why = " ".join(f"{known['path']}: {error}".split())
        return Skipped(entry.path, "bad_sidecar", why, entry.checksum)
    if isinstance(label, (dict, list)):
        why = f"{known['path']}: {label_field} is a {type(label).__name__}"
        return Skipped(entry.path, "bad_sidecar", why, entry.checksum)
    return replace(entry, label=None if label in (None, "") else str(label), partners=(partner,))


def parse_sidecar(data: bytes) -> dict[str, Any]:
    """The object in a sidecar.

    Raises:
        ValueError: it holds something else, or a number that JSON does not have.
    """
    value = json.loads(data, parse_constant=_refuse)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, got a {type(value).__name__}")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
