"""A training process that really gets SIGKILL, wherever it is at that moment, and is started again."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from tests.vqgan_core.training.test_exact_resume import run_tokenizer
from vqgan_core.training import DirectoryCheckpoints, MemoryCheckpoints

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import sys
from pathlib import Path
from tests.vqgan_core.training.test_exact_resume import run_tokenizer
from vqgan_core.training import DirectoryCheckpoints
print("started", flush=True)
for name, data in run_tokenizer("everything", DirectoryCheckpoints(sys.argv[1])).items():
    Path(sys.argv[2], name).write_bytes(data)
"""


def test_a_process_that_gets_sigkill_ends_with_the_same_bytes(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    command = [sys.executable, "-c", CHILD, str(tmp_path / "checkpoints"), str(output)]
    random.seed(0)
    for _ in range(3):
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(timeout=random.uniform(0.05, 0.4))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
    files = run_tokenizer("everything", DirectoryCheckpoints(tmp_path / "checkpoints"))
    assert files == run_tokenizer("everything", MemoryCheckpoints())
