"""Contract: whatever is drawn, batches do not matter, known tokens stay, and what is kept is what the config says."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

from datasets.store import Artifact, Store
from datasets.tokens import TokenDataset
from tasks import sample
from tasks.drawing import Drawer
from tasks.models import load_prior, load_tokenizer
from tasks.sample import read_samples
from tasks.sample_plan import num_images, planned, records_of
from tasks.stage import Request, execute
from tests.tiny import Published, Recorder, Stopped
from vqgan_core.config import ConfigError, PriorConfig, SampleConfig
from vqgan_core.evaluation import DomainClassifier
from vqgan_core.prior.completion import UNKNOWN

CPU = torch.device("cpu")
Ask = Callable[..., Request]
MASK = ("#..#", "....", ".#..", "...#")


@pytest.fixture
def ask(published: Published) -> Ask:
    """A request for samples with some fields changed."""

    def make(**fields: Any) -> Request:
        values = published.config.sample.model_dump() | fields
        artifacts = published.artifacts
        return sample.request(
            SampleConfig.validated(values, origin="test"), artifacts["prior"], artifacts["tokenizer"],
            tokens=artifacts["tokens"], evaluation=artifacts["evaluation"],
        )  # fmt: skip

    return make


def publish(request: Request, root: Path) -> Artifact:
    store = Store.open(str(root))
    return store.get(execute(request, store))


def abouts(artifact: Artifact) -> list[dict[str, Any]]:
    found = []
    for entry in artifact.manifest.files:
        if entry.path.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(artifact.read(entry.path))) as tar:
                names = [name for name in tar.getnames() if name.endswith(".json")]
                found += [json.load(tar.extractfile(name) or io.BytesIO()) for name in names]
    return found


def pixels(artifact: Artifact) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.atleast_3d(image) for image, _ in read_samples(artifact)]))


def drawer(published: Published, **fields: Any) -> Drawer:
    config = SampleConfig.validated(published.config.sample.model_dump() | fields, origin="test")
    prior, tokenizer = (
        load_prior(published.artifacts["prior"], CPU),
        load_tokenizer(published.artifacts["tokenizer"], CPU),
    )
    records = records_of(config, prior.config, prior.spec, TokenDataset.open(published.artifacts["tokens"]))
    return Drawer(config, prior, tokenizer, CPU, records=records)


def test_what_came_later_is_in_no_old_fingerprint() -> None:
    assert set(SampleConfig().recipe()) == {
        "temperature", "min_p", "top_k", "top_p", "guidance", "guidance_schedule", "num_per_class", "seed",
        "images_per_shard",
    }  # fmt: skip
    assert SampleConfig.load(None, ["completion=upper"]).recipe()["completion"]["share"] == 0.5
    assert SampleConfig.load(None, ["rejection.fraction=0.1"]).recipe()["rejection"]["kind"] == "domain"


@pytest.mark.parametrize(
    "fields",
    [{}, {"completion": {"kind": "mask", "mask": MASK}}, {"size_px": (20, 28)}, {"num_beams": 3, "guidance": 1.0}],
    ids=["plain", "mask", "large", "beams"],
)
def test_batches_do_not_matter(ask: Ask, tmp_path: Path, fields: dict[str, Any]) -> None:
    found = set()
    for size in (1, 8):
        execution = {"device": "cpu", "num_threads": 1, "batch_size": size}
        found.add(publish(ask(execution=execution, num_per_class=1, **fields), tmp_path / f"{size}").ref.digest)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("completion", "num_known"),
    [({"kind": "upper"}, 8), ({"kind": "upper", "share": 0.9}, 12), ({"kind": "mask", "mask": MASK}, 4)],
    ids=["half", "most", "mask"],
)
def test_a_completion_keeps_every_known_token(published: Published, completion: dict[str, Any], num_known: int) -> None:
    ours = drawer(published, completion=completion, temperature=2.0)
    assert ours.records is not None
    samples = planned(ours.config, 10, ours.records)
    drawn = ours._sample(samples, ours._columns(samples)).flatten(1)
    known = torch.stack([ours.records.known[item.record or ""] for item in samples])
    assert ((known != UNKNOWN).sum(1) == num_known).all()
    assert torch.equal(drawn[known != UNKNOWN], known[known != UNKNOWN])
    tokens = TokenDataset.open(published.artifacts["tokens"])
    rows = {key: row for row, key in enumerate(tokens.keys("val"))}
    for item, grid in zip(samples, known, strict=True):
        assert tokens.labels("val")[rows[item.record or ""]] == item.label
        whole = tokens.tokens("val")[rows[item.record or ""]]
        assert torch.equal(grid[grid != UNKNOWN], whole[grid != UNKNOWN])
    assert not torch.equal(drawn[known == UNKNOWN], drawn.flip(0)[known.flip(0) == UNKNOWN])


def test_completions_name_their_records(ask: Ask, published: Published, tmp_path: Path) -> None:
    request = ask(completion={"kind": "upper", "split": "train"})
    assert [ref.kind for ref in request.inputs] == ["prior", "tokenizer", "tokens"]
    told = abouts(publish(request, tmp_path))
    keys = TokenDataset.open(published.artifacts["tokens"]).keys("train")
    assert all(entry["record"] in keys for entry in told)
    assert len({entry["record"] for entry in told}) == len(told) == 20


def test_a_completion_that_does_not_fit_is_refused(published: Published) -> None:
    with pytest.raises(ValueError, match="a mask of 1 x 2 for a grid of 4 x 4"):
        drawer(published, completion={"kind": "mask", "mask": ("#.",)})
    first = drawer(published, completion={"kind": "upper", "known_first": True})
    with pytest.raises(ValueError, match="reads in the order row alone"):
        first.draw(planned(first.config, 10, first.records)[:1])


def test_beams_are_the_likeliest_images_with_their_likelihood(published: Published) -> None:
    ours = drawer(published, num_beams=4, guidance=1.0, num_per_class=3)
    samples = planned(ours.config, 10)[:6]
    batches = list(ours.batches(samples))
    assert [[item.label for item in batch] for batch in batches] == [[0] * 3, [1] * 3]
    for batch in batches:
        grids, scores = ours._search(batch)
        with torch.no_grad():
            nll = ours.prior.nll(grids.flatten(1), torch.tensor([item.label for item in batch])).sum(1)
        assert torch.allclose(-nll, torch.tensor(scores), atol=1e-3)
        assert scores == sorted(scores, reverse=True)
        assert [one.about["log_probability"] for one in ours.draw(batch)] == [round(score, 6) for score in scores]


def test_large_images_have_any_aspect(ask: Ask, published: Published, tmp_path: Path) -> None:
    artifact = publish(ask(size_px=(16, 40), num_per_class=1), tmp_path)
    assert pixels(artifact).shape == (10, 16, 40, 1)
    assert "16×40 px" in artifact.manifest.summary["headline"]
    for size, words in (((12, 16), "does not fit"), ((18, 20), "multiples of the tokenizer's factor 4")):
        with pytest.raises(ValueError, match=words):
            publish(ask(size_px=size), tmp_path)


def test_the_best_fraction_of_each_class_is_kept(ask: Ask, published: Published, tmp_path: Path) -> None:
    request = ask(num_per_class=2, rejection={"kind": "domain", "fraction": 0.3})
    assert [ref.kind for ref in request.inputs] == ["prior", "tokenizer", "evaluation"]
    kept, everything = publish(request, tmp_path), publish(ask(num_per_class=6), tmp_path)
    evaluation = published.artifacts["evaluation"]
    judge = DomainClassifier.from_files(
        {name: evaluation.read(name) for name in ("classifier.json", "classifier.safetensors")}
    )
    drawn, labels = pixels(everything), torch.arange(10).repeat_interleave(6)
    scores = judge.confidence(drawn.permute(0, 3, 1, 2).float() / 127.5 - 1, labels)
    told = abouts(kept)
    assert [entry["class"] for entry in told] == torch.arange(10).repeat_interleave(2).tolist()
    for label in range(10):
        best = scores[labels == label].topk(2).values.sort().values
        ours = torch.tensor(sorted(entry["score"] for entry in told if entry["class"] == label))
        assert torch.allclose(best, ours, atol=0.01)  # scored before the pixels were rounded
    seeds = {entry["seed"] for entry in abouts(everything)}
    assert {entry["seed"] for entry in told} <= seeds
    assert kept.manifest.summary["num_images"] == 20


def test_rejection_goes_on_where_it_was_stopped(ask: Ask, tmp_path: Path) -> None:
    request = ask(rejection={"kind": "domain", "fraction": 0.5}, images_per_shard=8)
    with pytest.raises(Stopped):
        execute(request, Store.open(str(tmp_path / "a")), Recorder(stop_after=2))
    kept = sorted((tmp_path / "a" / "work").rglob("samples-*.tar"))
    assert len(kept) == 2
    before = [path.stat().st_mtime_ns for path in kept]
    with pytest.raises(Stopped):  # once more, before the work is cleared: the first shards are not drawn again
        execute(request, Store.open(str(tmp_path / "a")), Recorder(stop_after=4))
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert execute(request, Store.open(str(tmp_path / "a"))).digest == publish(request, tmp_path / "b").ref.digest


def test_a_torchvision_classifier_judges_too(ask: Ask, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(models.squeezenet1_1(num_classes=12).state_dict(), weights)
    fields = {"kind": "torchvision", "model": "squeezenet1_1", "weights": str(weights), "fraction": 0.5, "size_px": 32}
    request = ask(rejection={**fields, "class_indices": tuple(range(2, 12))})
    assert [ref.kind for ref in request.inputs] == ["prior", "tokenizer", "weights"]
    told = abouts(publish(request, tmp_path / "store"))
    assert len(told) == 20
    assert all(0 < entry["score"] < 1 for entry in told)
    torch.save(models.squeezenet1_1(num_classes=12).state_dict(), weights)
    assert ask(rejection={**fields, "class_indices": tuple(range(2, 12))}).fingerprint != request.fingerprint
    for change, words in (
        ({"class_indices": (0, 1)}, "for each of 10 classes"),
        ({"class_indices": tuple(range(3, 13))}, "one of the 12 outputs"),
        ({"model": "squeezenet9"}, "has no classifier 'squeezenet9'"),
        ({"model": "resnet18"}, "are no weights of resnet18"),
    ):
        with pytest.raises(ValueError, match=words):
            publish(ask(rejection=fields | change), tmp_path / "store")
    with pytest.raises(ValueError, match="there is no such file"):
        ask(rejection={**fields, "weights": str(tmp_path / "nowhere.pth")})


def test_what_is_needed_is_said_before_anything_is_drawn(published: Published) -> None:
    prior, tokenizer = published.artifacts["prior"], published.artifacts["tokenizer"]
    for fields, flag in (({"completion": "upper"}, "--tokens"), ({"rejection": {"fraction": 0.5}}, "--evaluation")):
        config = SampleConfig.validated(fields, origin="test")
        with pytest.raises(ConfigError, match=f"{flag} FINGERPRINT"):
            sample.request(config, prior, tokenizer)
    with pytest.raises(ConfigError, match="which a pipeline makes last"):
        sample.refuse_later_inputs(SampleConfig.validated({"rejection": {"fraction": 0.5}}, origin="test"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_beams": 4, "num_per_class": 2, "guidance": 2.0}, "takes no guidance"),
        ({"num_beams": 4, "num_per_class": 2, "rejection": {"fraction": 0.5}}, "takes no rejection"),
        ({"num_beams": 4}, "at least as many beams"),
        ({"num_beams": 40, "size_px": (64, 64)}, "size_px and num_beams cannot be combined"),
        ({"completion": "upper", "size_px": (64, 64)}, "size_px and completion cannot be combined"),
        ({"completion": {"kind": "mask", "mask": ["#.", "#"]}}, "rows of one length"),
        ({"completion": {"kind": "mask", "mask": ["##"]}}, "at least one"),
        ({"rejection": {"fraction": 1.0}}, "less than 1"),
    ],
)
def test_ways_that_do_not_go_together(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SampleConfig.validated(fields, origin="test")


@pytest.mark.parametrize(("count", "fraction"), [(20, 0.05), (7, 0.3), (3, 0.9), (1, 0.5), (10, 0.1)])
def test_as_many_are_drawn_as_keep_the_asked_number(count: int, fraction: float) -> None:
    from vqgan_core.evaluation import keep_best  # noqa: PLC0415 - used here alone

    config = SampleConfig.validated({"num_per_class": count, "rejection": {"fraction": fraction}}, origin="test")
    prior = PriorConfig(condition="none")
    assert len(keep_best(torch.rand(num_images(config, prior, 0)), fraction)) == count
