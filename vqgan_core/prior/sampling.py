"""Drawing tokens from a prior, one position after another.

Axes: B images, R rows (B; or with guidance 2B: conditional, then unconditional ones), M given tokens, N tokens,
K codebook entries.

The draw is a race of exponential clocks: argmax p_k / E_k with E_k ~ Exp(1) has distribution p. It needs no round trip
to the host, and the winner changes only where two clocks all but tie: rounding (another batch size, another kernel)
moves it less often than a lookup of one uniform number in the cumulative distribution, which has K boundaries to fall
on.

Departures from the original: the cache has a fixed size, top-p works alone, seeds are per image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.compiled import CompiledDecoder
from vqgan_core.prior.completion import plan_completion
from vqgan_core.prior.condition import Columns
from vqgan_core.prior.decoder import Decoder, Placement
from vqgan_core.prior.filters import filter_logits
from vqgan_core.prior.guidance import guidance_scale, guide
from vqgan_core.prior.model import Prior
from vqgan_core.prior.noise import ImageStreams
from vqgan_core.prior.packed import for_drawing
from vqgan_core.prior.pixels import PixelDecoder

__all__ = ["Sampler", "draw", "extend", "guide", "sample_tokens"]

Network = Decoder | PixelDecoder | CompiledDecoder
Choose = Callable[[Tensor, int], Tensor]
"""(logits "R K", step) → tokens "R"."""
Place = Callable[[int, int], Placement]
"""(index of the first element, index after the last one) → where these elements of the sequence stand."""
Progress = Callable[[int, int], None]
"""(steps done, steps in all), called after each step."""


class Sampler:
    """A prior that is ready to draw any number of batches: dropout off, weights laid out once, at the first of them.

    Args:
        prior: on any device; its weights must not change as long as this draws from them.
        config: temperature, filters, guidance, precision.
        compiled: whether steps are compiled, which takes a minute and pays on a GPU.

    Raises:
        ValueError: a convolutional prior is to be compiled.
    """

    def __init__(self, prior: Prior, config: SamplingConfig, *, compiled: bool = False) -> None:
        if compiled and not isinstance(prior.transformer, Decoder):
            raise ValueError("compile: steps of convolutional priors cannot be compiled; leave it off")
        self.prior, self.config, self.compiled = prior, config, compiled
        self._network: Network | None = None

    @torch.no_grad()
    def sample(
        self,
        labels: Int[Tensor, " B"] | None,
        seeds: Sequence[int] | Int[Tensor, " B"],
        progress: Progress | None = None,
        *,
        known: Int[Tensor, "B N"] | None = None,
        known_first: bool = False,
        columns: Columns | None = None,
    ) -> Int[Tensor, "B N"]:
        """Draw the tokens of one image for each seed; see `sample_tokens`."""
        prior, config, streams = self.prior, self.config, ImageStreams(seeds, self.prior.device)
        prefix = starting_rows(prior, labels, len(streams), config.guidance, columns)
        plan = plan_completion(prior, known, len(streams), known_first=known_first)
        num_copies, num_tokens = len(prefix) // len(streams), prior.spec.num_tokens
        orders = plan.orders if len(plan.orders) == 1 else plan.orders.repeat(num_copies, 1)

        def choose(logits: Tensor, index: int) -> Tensor:
            step = plan.num_given + index
            guided = guide(logits.float(), len(streams), guidance_scale(config, step, num_tokens))
            return plan.keep(draw(guided, config, streams, step), step).repeat(num_copies)

        drawn = extend(
            self._laid_out(len(prefix)),
            num_tokens - plan.num_given,
            choose,
            prompt=None if plan.given is None else plan.given.repeat(num_copies, 1),
            prefix=prefix,
            place=lambda start, end: prior.placement(orders, start, end),
            progress=progress,
        )[: len(streams)]
        return plan.to_raster(drawn if plan.given is None else torch.cat([plan.given, drawn], dim=1))

    def _laid_out(self, num_rows: int) -> Network:
        """The network, best for the first batch's number of rows."""
        if self._network is None:
            network = for_drawing(self.prior.transformer, num_rows, self.config, compiled=self.compiled)
            if self.compiled:
                assert isinstance(network, Decoder)
                self._network = CompiledDecoder(network)
            else:
                self._network = network
        return self._network


def sample_tokens(
    prior: Prior,
    labels: Int[Tensor, " B"] | None,
    seeds: Sequence[int] | Int[Tensor, " B"],
    config: SamplingConfig,
    progress: Progress | None = None,
    *,
    known: Int[Tensor, "B N"] | None = None,
    known_first: bool = False,
    columns: Columns | None = None,
) -> Int[Tensor, "B N"]:
    """Draw the tokens of one image for each seed, with dropout off; `Sampler` draws many batches.

    The same seed, condition, config and known tokens give the same image, whatever else is in the batch (up to
    rounding: see above).

    Args:
        prior: on any device; the tokens come back there, row by row.
        labels: one an image for a class-conditional prior, else None.
        seeds: one an image.
        config: temperature, filters, guidance, precision.
        progress: told about each step.
        known: tokens that are kept, row by row, and `completion.UNKNOWN` where one is to be drawn; None: draw all.
        known_first: read all known tokens before the first draw, for priors of order random_annealed. Without it, a
            known token is looked at by those that come after it in the prior's order.
        columns: an image's tokens of each of the prior's condition columns.

    Raises:
        ValueError: labels or a column missing, of another number than the seeds, out of range, or given to a prior that
            is not told them; guidance of an unconditional prior; no seeds, or one out of range; known tokens that do
            not fit.
    """
    sampler = Sampler(prior, config)
    return sampler.sample(labels, seeds, progress, known=known, known_first=known_first, columns=columns)


@torch.no_grad()
def extend(
    transformer: Network,
    num_tokens: int,
    choose: Choose,
    *,
    prompt: Int[Tensor, "R M"] | None = None,
    prefix: Float[Tensor, "R P D"] | None = None,
    place: Place | None = None,
    progress: Progress | None = None,
) -> Int[Tensor, "R N"]:
    """Append num_tokens tokens to a prompt and a prefix, and return the new ones.

    Raises:
        ValueError: neither prompt nor prefix, or more positions than the transformer has.
    """
    given = prefix if prompt is None else prompt
    if given is None:
        raise ValueError("a transformer needs something to start from: give a prompt, a prefix, or both")
    if prompt is None:
        prompt = torch.empty(given.shape[0], 0, dtype=torch.int64, device=given.device)
    place = (lambda _start, _end: Placement()) if place is None else place
    end = prompt.shape[1] + (0 if prefix is None else prefix.shape[1])
    tokens = prompt.new_empty(prompt.shape[0], num_tokens)
    if not num_tokens:
        return tokens
    cache = transformer.new_cache(prompt.shape[0], max_length=end + num_tokens - 1)
    logits = transformer(prompt, prefix, cache, place(0, end), num_last=1)
    for step in range(num_tokens):
        tokens[:, step] = choose(logits[:, -1], step)
        if step + 1 < num_tokens:
            logits = transformer(tokens[:, step : step + 1], None, cache, place(end + step, end + step + 1))
        if progress is not None:
            progress(step + 1, num_tokens)
    return tokens


def draw(logits: Float[Tensor, "B K"], config: SamplingConfig, streams: ImageStreams, step: int) -> Int[Tensor, " B"]:
    """Draw one token an image; the likeliest (the first of equal ones) at temperature 0."""
    if config.temperature == 0:
        return logits.argmax(-1)
    probabilities = filter_logits(logits, config).softmax(-1)
    return (probabilities / streams.exponential(step, logits.shape[-1])).argmax(-1)


def starting_rows(
    prior: Prior,
    labels: Int[Tensor, " B"] | None,
    batch_size: int,
    guidance: float = 1.0,
    columns: Columns | None = None,
) -> Float[Tensor, "R P D"]:
    """The conditions of a batch; with guidance once more, untold.

    Raises:
        ValueError: no images; labels or columns missing, of another number, out of range, or given to a prior that is
            not told them; guidance of an unconditional prior.
    """
    if not batch_size:
        raise ValueError("no seeds: give one for each image")
    if not prior.takes_labels and labels is not None:
        kind = "told no class" if prior.is_conditional else "unconditional"
        raise ValueError(f"this prior is {kind}: it takes no labels")
    if superfluous := sorted(set(columns or {}) - set(prior.config.condition_columns)):
        raise ValueError(
            f"columns {superfluous}: this prior is told {list(prior.config.condition_columns) or 'no columns'}"
        )
    if not prior.is_conditional and guidance != 1:
        raise ValueError(f"guidance {guidance} needs a conditional prior; this one is unconditional: set guidance=1")
    told = prior.condition(
        None if labels is None else labels.to(prior.device),
        batch_size,
        columns={name: tokens.to(prior.device) for name, tokens in (columns or {}).items()},
    )
    return told if guidance == 1 else torch.cat([told, prior.null_condition(batch_size)])
