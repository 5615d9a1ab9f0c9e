"""The page of each artifact: pictures that can be seen, figures, lineage, and nothing that breaks the table."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from datasets.store import Store
from datasets.store.lineage import ancestors
from tasks.artifact_page import artifact_key, artifact_page, reading_note
from tests.tiny import KINDS, Published

PICTURE = re.compile(r"!\[([^\]]*)\]\(data:image/(png|svg\+xml);base64,([A-Za-z0-9+/=]+)\)")
EXPECTED = {
    "corpus": {"training images": "png"},
    "tokenizer": {
        "originals and reconstructions": "png", "Tokenizer: L1": "svg+xml", "Tokenizer: PSNR": "svg+xml",
        "Tokenizer: codebook usage": "svg+xml",
    },
    "tokens": {"how often each code occurs": "svg+xml"},
    "prior": {"Prior: NLL": "svg+xml"},
    "samples": {"samples, a row a class": "png"},
    "evaluation": {"reconstructions": "png", "samples": "png"},
}  # fmt: skip


def page(published: Published, kind: str) -> str:
    store = Store.open(published.config.store)
    artifact = published.artifacts[kind]
    return artifact_page(
        artifact, ancestors(store, artifact.manifest), lambda m: f"/v2/artifacts/key/{artifact_key(m)}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_can_be_seen(published: Published, kind: str) -> None:
    text = page(published, kind)
    found = {name: form for name, form, _ in PICTURE.findall(text)}
    assert found == EXPECTED[kind]
    assert len(text) < 400_000, "it is kept in the server's database"
    for _, form, data in PICTURE.findall(text):
        content = base64.b64decode(data)
        if form == "png":
            assert np.asarray(Image.open(io.BytesIO(content))).std() > 1, "not blank"
        else:
            root = ElementTree.fromstring(content)  # noqa: S314 - our own
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            variables = set(re.findall(r"var\((--[a-z0-9-]+)\)", content.decode()))
            assert variables
            assert all(f"{name}:#" in root.attrib["style"] for name in variables), "no page gives them"


@pytest.mark.parametrize("kind", KINDS)
def test_lineage_and_links(published: Published, kind: str) -> None:
    text = page(published, kind)
    line = KINDS[: KINDS.index(kind) + 1]
    for name in line:
        manifest = published.artifacts[name].manifest
        assert f"](/v2/artifacts/key/{name}-{manifest.fingerprint[:12]})" in text
        for ref in manifest.inputs:
            assert f"{ref.kind}{ref.fingerprint[:8]} --> {name}{manifest.fingerprint[:8]}" in text
    assert re.fullmatch(r"[a-z0-9-]+", artifact_key(published.artifacts[kind].manifest)), "Prefect takes no other keys"


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_of_a_table_has_its_cells(published: Published, kind: str) -> None:
    rows = [line for line in page(published, kind).splitlines() if line.startswith("| ")]
    blocks = re.split(r"(?m)^(?!\| )", "\n".join(page(published, kind).splitlines()))
    assert rows
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("| ")}
        assert len(widths) <= 1, block


def test_a_reading_note_is_small(published: Published) -> None:
    note = reading_note(published.artifacts["corpus"].manifest, "encode")
    assert "read by `encode`" in note
    assert "data:image" not in note
