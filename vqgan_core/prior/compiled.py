"""A transformer that draws with compiled steps: on a GPU one CUDA graph a token in place of hundreds of launches.

Axes: R rows, P prefix embeddings, N tokens, T positions, V vocabulary, D width.

A graph is recorded once and always does the same to the same memory. So a step has one shape, whichever position it
stands at: the position is a number on the device, attention reads the whole cache, and a mask hides what is not there
yet (`Decoder.step`). The cache is made once, too, for the number of rows of the first batch; a batch of another number,
such as the last one, is drawn without compiling.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.prior.cache import CacheAt, KeyValueCache
from vqgan_core.prior.decoder import Decoder, Placement


class CompiledDecoder(nn.Module):
    """Draws as the network does, to rounding.

    Args:
        network: in eval mode; its weights must not change.
    """

    def __init__(self, network: Decoder) -> None:
        super().__init__()
        self._network = network
        self._cache: KeyValueCache | None = None
        self._at: CacheAt | None = None
        on_gpu = network.token_embedding.weight.device.type == "cuda"
        mode = "reduce-overhead" if on_gpu else "default"
        self._step = torch.compile(network.step, fullgraph=True, dynamic=False, mode=mode)

    def new_cache(self, batch_size: int, max_length: int | None = None) -> KeyValueCache:
        """An empty cache: the compiled one for as many rows as the first time, or a new one."""
        if self._cache is None:
            self._cache = self._network.new_cache(batch_size)
            self._at = CacheAt(self._cache)
            for tensor in (*self._cache.keys, *self._cache.values):
                torch._dynamo.mark_static_address(tensor)
        if batch_size != self._cache.batch_size:
            return self._network.new_cache(batch_size, max_length)
        self._cache.reset()
        return self._cache

    def forward(
        self,
        tokens: Int[Tensor, "R N"],
        prefix: Float[Tensor, "R P D"] | None = None,
        cache: KeyValueCache | None = None,
        placement: Placement | None = None,
        num_last: int | None = None,
    ) -> Float[Tensor, "R L V"]:
        """As `Decoder.forward`; one more token of the compiled cache's rows is a compiled step."""
        is_step = tokens.shape[1] == 1 and prefix is None
        if cache is None or cache is not self._cache or self._at is None or not is_step:
            logits: Tensor = self._network(tokens, prefix, cache, placement, num_last)
            return logits
        self._at.position.fill_(cache.length)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # the last step's logits were used
        logits = self._step(tokens, self._at, Placement() if placement is None else placement)
        cache.advance(1)
        return logits
