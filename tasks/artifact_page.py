"""What a run's page in Prefect shows of an artifact: pictures, figures, where it came from, who else made or read it.

Markdown, read back from the published artifact, so that it is the same whether this run made it or the store had it.
Everything on it is kept in the server's database: pictures are small, the page stays far below a megabyte.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.corpus import Corpus
from datasets.store import Artifact, Manifest
from tasks.curves import prior_curves, tokenizer_curves
from tasks.report import CodeUse, Curves
from tasks.report.figures import curves_svg, histogram_svg
from tasks.report.markdown import drawing, escaped, photograph, table
from tasks.report.pictures import fitted, grid, png_bytes
from tasks.report.wording import byte_size, duration, number, without_secrets
from vqgan_core.quantizers import CodeUsage

#: A short report that an artifact brings along; it stands in for the pictures.
SUMMARY = "summary.md"
RECONSTRUCTIONS = "reconstructions.png"
NUM_PICTURES, COLUMNS, PICTURE_PX, SHEET_PX = 30, 10, 64, 900
MOST_ENTRIES, LONGEST_TEXT = 12, 200


def artifact_key(manifest: Manifest) -> str:
    """Under which all runs that make or read an artifact show it: its page in the UI lists them."""
    return f"{manifest.kind}-{manifest.fingerprint[:12]}"


def artifact_page(artifact: Artifact, lineage: Sequence[Manifest], link: Callable[[Manifest], str]) -> str:
    """The page.

    Args:
        artifact: what to show.
        lineage: all that it was made from, sources first, and itself.
        link: where an artifact's page is.
    """
    manifest = artifact.manifest
    if any(entry.path == SUMMARY for entry in manifest.views):
        parts = [artifact.read(SUMMARY).decode()]
    else:
        parts = [f"# {_title(manifest)}", _headline(manifest), *_PICTURES.get(manifest.kind, _nothing)(artifact)]
        parts += ["## Figures", _figures(manifest)]
    parts += ["## Lineage", _graph(lineage), _family(lineage, link)]
    return "\n\n".join(part for part in parts if part) + "\n"


def reading_note(manifest: Manifest, reader: str) -> str:
    """What the page of a run says that only read an artifact."""
    return f"# {_title(manifest)}\n\nread by `{reader}`\n\n{_headline(manifest)}\n\n{_figures(manifest)}\n"


def _title(manifest: Manifest) -> str:
    return f"{manifest.kind} {manifest.fingerprint[:12]}"


def _headline(manifest: Manifest) -> str:
    return escaped(str(manifest.summary.get("headline", "")))


def _nothing(_: Artifact) -> Iterator[str]:
    return iter(())


def _corpus_pictures(artifact: Artifact) -> Iterator[str]:
    corpus = Corpus.open(artifact)
    total = corpus.num_records("train")
    chosen = sorted({round(place) for place in np.linspace(0, total - 1, min(NUM_PICTURES, total))})
    pictures = [fitted(corpus.image("train", place), PICTURE_PX) for place in chosen]
    yield photograph("training images", grid(pictures, columns=min(COLUMNS, len(pictures))))


def _tokenizer_pictures(artifact: Artifact) -> Iterator[str]:
    if any(entry.path == RECONSTRUCTIONS for entry in artifact.manifest.files):  # an imported tokenizer has none
        yield _sheet("originals and reconstructions", artifact.read(RECONSTRUCTIONS))
    yield from _charts(tokenizer_curves(artifact))


def _tokens_pictures(artifact: Artifact) -> Iterator[str]:
    counts = np.sum([np.asarray(split) for split in json.loads(artifact.read("codes.json")).values()], axis=0)
    usage = CodeUsage(torch.from_numpy(counts))
    yield drawing("how often each code occurs", histogram_svg(CodeUse(counts, usage.usage, usage.perplexity)))


def _prior_pictures(artifact: Artifact) -> Iterator[str]:
    yield from _charts(prior_curves(artifact))


def _sample_pictures(artifact: Artifact) -> Iterator[str]:
    yield _sheet("samples, a row a class", artifact.read("grid.png"))


_PICTURES: Mapping[str, Callable[[Artifact], Iterator[str]]] = {
    "corpus": _corpus_pictures,
    "tokenizer": _tokenizer_pictures,
    "tokens": _tokens_pictures,
    "prior": _prior_pictures,
    "samples": _sample_pictures,
}


def _charts(curves: Sequence[Curves]) -> Iterator[str]:
    for chart in curves:
        if chart.series:
            yield f"**{escaped(chart.title)}**" + (f" {escaped(chart.unit)}" if chart.unit else "")
            yield drawing(chart.title, curves_svg(chart))


def _sheet(alternative: str, png: bytes) -> str:
    image = Image.open(io.BytesIO(png))
    return photograph(alternative, png if max(image.size) <= SHEET_PX else png_bytes(fitted(image, SHEET_PX)))


def _figures(manifest: Manifest) -> str:
    rows = [(escaped(name), escaped(text)) for name, text in _flat(without_secrets(manifest.summary))]
    size = sum(entry.bytes for entry in manifest.files)
    rows += [
        ("built in", duration(manifest.cost.seconds)),
        ("on", escaped(str(manifest.environment.get("device", "")))),
        ("size", f"{byte_size(size)} in {len(manifest.files):,} files"),
        ("stage", f"{escaped(manifest.stage)} v{manifest.stage_version}"),
        ("fingerprint", f"`{manifest.fingerprint}`"),
        ("digest", f"`{manifest.digest}`"),
    ]
    return table(("", ""), rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Numbers and short texts of a summary, nested names joined by dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.") if len(value) <= MOST_ENTRIES else ()
        elif name != "headline" and value not in (None, [], ""):
            text = _text(value)
            if len(text) <= LONGEST_TEXT:
                yield f"{prefix}{name}".replace("_", " "), text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return number(value) if isinstance(value, int | float) else str(value)


def _graph(lineage: Sequence[Manifest]) -> str:
    """The artifacts as a diagram, which Prefect's newer UI draws."""
    lines = ["```mermaid", "graph LR"]
    for manifest in lineage:
        lines.append(f'  {manifest.kind}{manifest.fingerprint[:8]}["{manifest.kind}<br/>{manifest.fingerprint[:8]}"]')
        for ref in manifest.inputs:
            if ref.kind == "source":
                lines.append(f'  source{ref.fingerprint[:8]}(["source<br/>{ref.fingerprint[:8]}"])')
            lines.append(f"  {ref.kind}{ref.fingerprint[:8]} --> {manifest.kind}{manifest.fingerprint[:8]}")
    return "\n".join([*lines, "```"])


def _family(lineage: Sequence[Manifest], link: Callable[[Manifest], str]) -> str:
    rows = [
        (
            f"[{_title(manifest)}]({link(manifest)})",
            _headline(manifest),
            escaped(manifest.created[:16].replace("T", " ")),
        )
        for manifest in lineage
    ]
    return table(("artifact: all runs that made or read it", "", "created"), rows)
