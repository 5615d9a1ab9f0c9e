"""The report: one HTML file with everything inside, for a person who wants to see whether a run went well.

No script, no font, no picture comes from elsewhere, so the file can be sent, archived and opened in ten years. All text
is escaped by the template; the only markup that goes in unescaped is that of our own figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup
from PIL import Image

from tasks.report.figures import curves_svg, histogram_svg
from tasks.report.inputs import Curves, ReportInputs, SampleRow
from tasks.report.pictures import Picture, data_uri, fitted
from tasks.report.template import filled
from tasks.report.wording import byte_size, depends_on, duration, number, spread_of, without_secrets

__all__ = ["render"]

_TEMPLATE = "report.html.j2"
_PAIR_PX = 256  # larger pictures are shrunk to this: nobody sees more in a row of pairs
_SAMPLE_PX = 128
_SHOWN_PX = 96  # small pictures are shown at a whole multiple of their size, about this large
_SMALL_PX = 64
_SHORT = 8  # characters of a digest that people are shown
_SUMMARY_ITEMS = 3


def render(inputs: ReportInputs) -> str:
    """Write the page."""
    return filled(
        _TEMPLATE,
        inputs=inputs,
        pairs=_pairs(inputs.originals, inputs.reconstructions),
        samples=[_sample_row(row) for row in inputs.samples],
        curves=[_chart(curves) for curves in inputs.curves if curves.series],
        code_use=_code_use(inputs),
        likelihood=_likelihood(inputs),
        metrics=[_metric(metric) for metric in inputs.metrics],
        lineage=_lineage(inputs.manifests),
        costs=_costs(inputs.manifests),
        recipe=yaml.safe_dump(without_secrets(dict(inputs.recipe)), sort_keys=False, allow_unicode=True),
        machine=_machine(inputs.manifests),
    )


def _pairs(originals: Sequence[Picture], reconstructions: Sequence[Picture]) -> list[dict[str, Any]]:
    pictures = [
        (fitted(original, _PAIR_PX), fitted(reconstruction, _PAIR_PX))
        for original, reconstruction in zip(originals, reconstructions, strict=True)
    ]
    return [
        {"original": data_uri(original), "reconstruction": data_uri(reconstruction), "shown_px": _shown_px(original)}
        for original, reconstruction in pictures
    ]


def _shown_px(image: Image.Image) -> int:
    return image.width * max(1, round(_SHOWN_PX / max(image.size)))


def _sample_row(row: SampleRow) -> dict[str, Any]:
    images = [fitted(picture, _SAMPLE_PX) for picture in row.pictures]
    large = any(max(image.size) > _SMALL_PX for image in images)
    return {"name": row.name, "pictures": [data_uri(image) for image in images], "columns": 5 if large else 10}


def _chart(curves: Curves) -> dict[str, Any]:
    return {"title": curves.title, "unit": curves.unit, "svg": Markup(curves_svg(curves))}  # noqa: S704 -- our own SVG; matplotlib escapes its text


def _code_use(inputs: ReportInputs) -> dict[str, Any] | None:
    use = inputs.code_use
    if use is None:
        return None
    size = len(use.counts)
    return {
        "svg": Markup(histogram_svg(use)),  # noqa: S704 -- our own SVG, which holds numbers only
        "size": f"{size:,}",
        "usage": f"{100 * use.usage:.1f} %",
        "unused": f"{size - round(use.usage * size):,}",
        "perplexity": number(use.perplexity),
        "over": use.over,
    }


def _likelihood(inputs: ReportInputs) -> dict[str, Any] | None:
    found = inputs.likelihood
    if found is None:
        return None
    longest = max(found.prior, found.unigram, 1e-9)
    return {
        "prior": number(found.prior),
        "unigram": number(found.unigram),
        "prior_percent": round(100 * found.prior / longest, 1),
        "unigram_percent": round(100 * found.unigram / longest, 1),
        "gain_percent": round(100 * (1 - found.prior / found.unigram), 1) if found.unigram > 0 else 0.0,
        "bits": None if found.bits_per_dimension is None else number(found.bits_per_dimension),
        "codebook_size": f"{found.codebook_size:,}",
    }


def _metric(metric: Mapping[str, Any]) -> dict[str, Any]:
    floor = metric.get("floor")
    return {
        "name": metric["name"],
        "better": "higher is better" if metric["higher_is_better"] else "lower is better",
        "arrow": "↑" if metric["higher_is_better"] else "↓",
        "value": number(metric["value"]),
        "unit": metric.get("unit", ""),
        "n": f"{metric['n']:,}",
        "spread": spread_of(metric),
        "floor": "" if floor is None else number(floor),
        "depends_on": depends_on(metric),
    }


def _lineage(manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A box an artifact; an arrow leads to those that were made from the one before them."""
    source = next((m["recipe"]["source"] for m in manifests if m.get("recipe", {}).get("source")), None)
    before = [source, *(manifest["fingerprint"] for manifest in manifests)]
    nodes = [
        {
            "kind": manifest["kind"],
            "fingerprint": str(manifest["fingerprint"])[:_SHORT],
            "title": f"fingerprint {manifest['fingerprint']}, digest {manifest.get('digest', 'unknown')}",
            "facts": _facts(manifest.get("summary", {})),
            "inputs": [f"{given['kind']} {str(given['fingerprint'])[:_SHORT]}" for given in manifest.get("inputs", ())],
            "follows": last is not None
            and last in (manifest.get("recipe", {}).get("source"), *_fingerprints(manifest)),
        }
        for last, manifest in zip(before, manifests, strict=False)
    ]
    return [_source_node(source), *nodes] if source else nodes


def _fingerprints(manifest: Mapping[str, Any]) -> list[str]:
    return [given["fingerprint"] for given in manifest.get("inputs", ())]


def _source_node(source: Mapping[str, Any]) -> dict[str, Any]:
    place = source.get("url") or source.get("name") or ", ".join(source.get("urls", ()))
    facts = [str(source["kind"]), *([without_secrets(str(place))] if place else [])]
    return {"kind": "source", "fingerprint": "", "title": "", "facts": facts, "inputs": [], "follows": False}


def _facts(summary: Mapping[str, Any]) -> list[str]:
    """The first few plain figures of a summary, in words."""
    plain = [(name, value) for name, value in summary.items() if isinstance(value, int | float | str)]
    return [
        f"{_fact(name)} {value if isinstance(value, str) else number(value)}".strip()
        for name, value in plain[:_SUMMARY_ITEMS]
    ]


def _fact(name: str) -> str:
    return "" if name == "headline" else name.removeprefix("num_").replace("_", " ")


def _costs(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    costs = [(manifest, manifest.get("cost") or {}) for manifest in manifests]
    total = sum(cost.get("seconds", 0.0) for _, cost in costs)
    if not costs or total <= 0:
        return None
    rows = [
        {
            "stage": manifest.get("stage", manifest["kind"]),
            "percent": round(100 * cost.get("seconds", 0.0) / total, 2),
            "seconds": duration(cost.get("seconds", 0.0)),
            "device_seconds": duration(cost["device_seconds"]) if cost.get("device_seconds") else "",
            "read": byte_size(cost["bytes_read"]) if cost.get("bytes_read") else "",
            "written": byte_size(cost.get("bytes_written") or sum(f["bytes"] for f in manifest.get("files", ()))),
        }
        for manifest, cost in costs
    ]
    shown = [name for name in ("device_seconds", "read") if any(row[name] for row in rows)]
    return {"rows": rows, "total": duration(total), "shown": shown}


def _machine(manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the last artifact was made with."""
    environment = manifests[-1].get("environment", {}) if manifests else {}
    flat: list[str] = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            flat += [f"{package} {version}" for package, version in value.items()]
        elif value:
            flat.append(f"{re.sub('_', ' ', name)} {value}")
    return flat
