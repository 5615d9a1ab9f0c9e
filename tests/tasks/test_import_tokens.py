"""Contract: tokens from elsewhere are an ordinary token dataset: cached, verified, in the lineage of their priors."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.config import ImportTokensConfig
from datasets.errors import TokenError
from datasets.store import Artifact, Store
from datasets.store.lineage import ancestors
from datasets.tokens import TokenDataset
from tasks import import_tokens, sample, train_prior
from tasks.stage import Request, execute
from tests.tiny import Published, Recorder, Stopped
from vqgan_core.config import ConfigError


def publish(store: Store, request: Request) -> Artifact:
    return store.get(execute(request, store))


def as_others_write(published: Published, folder: Path) -> Path:
    """The pipeline's own tokens as somebody else would have written them."""
    tokens = TokenDataset.open(published.artifacts["tokens"])
    names = tokens.meta.class_names
    for split in tokens.splits:
        labels = [names[number] for number in tokens.labels(split)]
        rows = {"indices": tokens.tokens(split, "center").reshape(-1, 4, 4).tolist(), "key": tokens.keys(split)}
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.table({**rows, "label": labels, "split": [split] * len(labels)}), folder / f"{split}.parquet")
    return folder


def test_foreign_tokens_are_those_of_the_pipeline(published: Published, tmp_path: Path) -> None:
    folder, store = as_others_write(published, tmp_path / "theirs"), Store.open(str(tmp_path / "store"))
    digest = published.artifacts["tokenizer"].manifest.digest
    config = ImportTokensConfig(codebook_size=16, tokenizer_digest=digest).at(str(folder))
    artifact = publish(store, import_tokens.request(config))
    ours, theirs = TokenDataset.open(published.artifacts["tokens"]), TokenDataset.open(artifact)
    for split in ours.splits:
        assert theirs.tokens(split).tolist() == ours.tokens(split, "center").tolist()
        assert theirs.labels(split).tolist() == ours.labels(split).tolist()
    assert store.verify() == []
    assert str(folder) not in artifact.manifest.model_dump_json()
    folder.rename(tmp_path / "moved")
    moved = config.at(str(tmp_path / "moved"))
    assert import_tokens.request(moved).fingerprint == artifact.manifest.fingerprint
    (tmp_path / "moved" / "train.parquet").write_bytes((tmp_path / "moved" / "val.parquet").read_bytes())
    assert import_tokens.request(moved).fingerprint != artifact.manifest.fingerprint
    with pytest.raises(TokenError, match="count twice"):
        publish(store, import_tokens.request(moved))


def test_several_priors_on_foreign_tokens_and_their_samples(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    store, folder = Store.open(copy.config.store), as_others_write(published, tmp_path / "theirs")
    tokenizer = copy.artifacts["tokenizer"]
    config = ImportTokensConfig(codebook_size=16, tokenizer_digest=tokenizer.manifest.digest).at(str(folder))
    tokens = publish(store, import_tokens.request(config))
    for width in (16, 32):
        recipe = copy.config.prior.model_copy(update={"width": width})
        prior = publish(store, train_prior.request(recipe, tokens))
        assert [m.kind for m in ancestors(store, prior.manifest)] == ["tokens", "prior"]
    drawn = publish(store, sample.request(copy.config.sample, prior, tokenizer))
    assert drawn.manifest.summary["num_images"] == 20


def test_tokens_of_another_store_keep_their_origin(published: Published, tmp_path: Path) -> None:
    theirs, store = published.artifacts["tokens"], Store.open(str(tmp_path / "store"))
    artifact = publish(store, import_tokens.request(ImportTokensConfig().at(theirs.ref.uri)))
    assert artifact.manifest.inputs == [theirs.ref.as_input()]
    ours = {entry.path.rsplit("/", 1)[-1]: entry.sha256 for entry in theirs.manifest.files}
    assert sorted(entry.sha256 for entry in artifact.manifest.files) == sorted(ours.values())
    assert TokenDataset.open(artifact).meta == TokenDataset.open(theirs).meta


def test_an_import_goes_on_where_it_was_stopped(published: Published, tmp_path: Path) -> None:
    folder, store = as_others_write(published, tmp_path / "theirs"), Store.open(str(tmp_path / "store"))
    request = import_tokens.request(ImportTokensConfig(codebook_size=16).at(str(folder)))
    with pytest.raises(Stopped):
        execute(request, store, Recorder(stop_after=1))
    (parts,) = (tmp_path / "store" / "parts" / "tokens").iterdir()
    before = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    whole = publish(store, request)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert whole.ref.digest == publish(Store.open(str(tmp_path / "other")), request).ref.digest


def test_what_has_to_be_imported_and_what_not(tmp_path: Path) -> None:
    store, none = Store.open(str(tmp_path)), ImportTokensConfig()
    set_up = ImportTokensConfig(codebook_size=16).at("s3://theirs/tokens")
    assert import_tokens.wanted(none, None, store) is None
    assert import_tokens.wanted(set_up, None, store) == set_up
    assert import_tokens.wanted(set_up, "0123abcd", store) is None
    assert import_tokens.wanted(none, f"{store.url}/tokens/{'0' * 64}", store) is None
    for url in ("./theirs.parquet", "theirs.parquet", "s3://other/folder"):
        found = import_tokens.wanted(set_up, url, store)
        assert found is not None
        assert (found.execution.url, found.codebook_size) == (url, 16)
    with pytest.raises(ConfigError, match=r"import_tokens\.execution\.url is empty"):
        import_tokens.request(none)
