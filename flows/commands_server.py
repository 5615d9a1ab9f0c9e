"""`tessera server`: Prefect with everything in it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from flows.local_server import Address
from flows.server import serve as service

HIGHEST_PORT = 65535


def serve(options: argparse.Namespace) -> int:
    """`tessera server [--store URL] [--host H] [--port P] [--pools cpu gpu] [--gpus N]`: until Ctrl-C."""
    if options.store:
        os.environ["TESSERA_STORE"] = options.store  # the workers' runs write there, unless their form says otherwise
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    address = Address(options.host, options.port, ui=True, schedules=True)
    service.serve(service.Plan(address, tuple(options.pools), options.gpus or _num_gpus(), home))
    return 0


def _num_gpus() -> int:
    """How many there are here; a machine without one trains on its CPU, one run at a time."""
    import torch  # noqa: PLC0415 - takes seconds, and --gpus spares it

    return max(torch.cuda.device_count(), 1)
