"""What runs are called in Prefect: what they do, of which preset, and what somebody changed in the form."""

from __future__ import annotations

from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

#: Where, not what: of no interest in a name.
_WHERE = {"preset", "store", "overrides"}
_LONGEST = 120


def run_name() -> str:
    """The name of the flow run that begins, from its parameters."""
    parameters = flow_run.parameters
    preset = Path(str(parameters.get("preset", ""))).stem
    changed = [f"{name.replace('_', ' ')} {value}" for name, value in parameters.items() if _is_told(name, value)]
    changed += [f"{key}={value}" for key, value in (parameters.get("overrides") or {}).items()]
    return shortened(" · ".join([str(flow_run.flow_name).replace("-", " "), preset, *changed]))


def name_run(name: str) -> None:
    """Give the flow run around this code another name."""
    if run_id := flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run_id, name=shortened(name))


def shortened(name: str) -> str:
    """A name that fits into a table."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _is_told(name: str, value: object) -> bool:
    return name not in _WHERE and value is not None
