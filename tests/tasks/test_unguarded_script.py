"""Contract: a script that runs the pipeline without a guard of its main module ends with a reason instead of hanging.

Children that decode images import the script that started them; without a guard each would start the pipeline again,
which then waits for its own parent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from datasets.store import Store
from tests.processes import ROOT
from tests.tiny import tiny_config, write_preset

SCRIPT = """
import sys
from tasks.config import PipelineConfig
from tasks.pipeline import Pipeline
from tasks.stage import execute
from datasets.store import Store

print("imported", flush=True)
config = PipelineConfig.preset(sys.argv[1])
execute(Pipeline(config).request("shard"), Store.open(config.store))
"""


def test_an_unguarded_script_says_what_it_lacks(tmp_path: Path, digit_folder: Path) -> None:
    script, preset = tmp_path / "plain.py", write_preset(tmp_path / "tiny.yaml", tmp_path / "store", digit_folder)
    script.write_text(SCRIPT)
    said = subprocess.run(
        [sys.executable, str(script), str(preset)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 1
    assert said.stdout.count("imported") == 2, "by itself and by one child that was tried"
    assert said.stderr.rstrip().splitlines()[-1].startswith("datasets.errors.IngestError: images are decoded in child")
    assert '`if __name__ == "__main__":`' in said.stderr
    assert not Store.open(tiny_config(tmp_path / "store", digit_folder).store).artifacts()
