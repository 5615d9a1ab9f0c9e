"""How much of a codebook reconstructed images use, as metrics: usage, perplexity, dead codes.

Axes: K entries.

All three depend on K and on how many indices there were: of fewer indices than entries, most entries cannot occur. Both
numbers stand in the note, so that values over different ones are never taken for comparable.
"""

from __future__ import annotations

from vqgan_core.evaluation.metric import Metric
from vqgan_core.quantizers import CodeUsage

__all__ = ["usage_metrics"]


def usage_metrics(usage: CodeUsage, *, n: int, reference: str) -> list[Metric]:
    """Figures of the indices of n images.

    Args:
        usage: how often each entry occurs.
        n: images.
        reference: name of the images, with the fingerprint of their artifact.
    """
    num_entries, num_indices = len(usage.histogram), int(usage.histogram.sum())
    over = f"{num_entries:,} entries, {num_indices:,} indices"
    if num_indices < num_entries:
        over += f": too few, at most {num_indices / num_entries:.1%} of the entries can occur"
    figures = {"codebook usage": (usage.usage, True), "codebook perplexity": (usage.perplexity, True)}
    figures["dead codes"] = (usage.num_dead, False)
    return [
        Metric(name=name, value=value, n=n, higher_is_better=higher, reference=reference, note=over)
        for name, (value, higher) in figures.items()
    ]
