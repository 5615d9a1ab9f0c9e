"""What a person sees while a stage runs: nothing of what is quick, lines in a file or pipe, bars on a terminal."""

from __future__ import annotations

import os
import pty
import re
import sys

import pytest

from tasks import progress
from tasks.progress import Quiet, Terminal, figures


class _Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_what_takes_under_two_seconds_says_nothing(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().bar("encode", 10, "shards") as bar:
        for done in range(1, 11):
            clock.now += 0.19
            bar.update(done)
    assert capsys.readouterr() == ("", "")


def test_what_takes_longer_says_when_it_is_done(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().bar("encode", 10, "shards") as bar:
        bar.update(10)
        clock.now += 2.5
    output = capsys.readouterr()
    assert output.out == ""  # that is for results
    assert output.err.count("\n") == 1
    assert output.err.startswith("encode: 10 shards in ")


def test_a_line_every_few_seconds(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().bar("train prior", 600, "steps") as bar:
        for step in range(1, 601):
            clock.now += 0.1
            bar.update(step, {"train/loss": 2.0, "validation/nll": 1.5})
    lines = capsys.readouterr().err.splitlines()
    assert 60 / progress.LINE_EVERY_SECONDS - 2 <= len(lines) <= 60 / progress.LINE_EVERY_SECONDS + 2
    assert "600 steps" in lines[-1]
    assert all("train prior: " in line and "\r" not in line and "\x1b" not in line for line in lines)
    assert all("train/loss 2" in line and "/600 steps" in line for line in lines[:-1])
    left = [int(match[1]) for line in lines[:-1] if (match := re.search(r"(\d+) s left", line))]
    assert left == sorted(left, reverse=True)
    assert len(left) == len(lines) - 1


def test_the_rate_counts_from_where_a_restart_began(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().bar("train prior", 1000, "steps") as bar:
        bar.update(900)
        clock.now += 10
        bar.update(910)
    assert "910/1000 steps, 1.0/s, 90 s left" in capsys.readouterr().err


def test_messages_are_always_shown(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for reporter in (Terminal(), Quiet()):
        with reporter.bar("train tokenizer", 10, "steps") as bar:
            bar.say("step 7: loss is NaN; went back to step 5")
            bar.update(10)
        assert capsys.readouterr().err == "train tokenizer: step 7: loss is NaN; went back to step 5\n"


def test_a_failure_is_not_reported_as_done(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), Terminal().bar("encode", 10, "shards"):  # noqa: PT012 - time passes inside
        clock.now += 100
        raise ValueError("no")
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with os.fdopen(theirs, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        with Terminal().bar("encode", 7, "shards") as bar:
            bar.update(3, {"loss": 0.123456})
            bar.say("look")
            bar.update(7)
        screen.flush()
        text = _all_of(ours).decode()
    os.close(ours)
    assert "\x1b[" in text  # drawn, not printed
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert all(words in plain for words in ("encode", "look", "7/7", "loss 0.1235"))


def _all_of(screen: int) -> bytes:
    """What was written so far. A slow machine redraws the bar often, and one read gives no more than a page."""
    os.set_blocking(screen, False)
    pieces = []
    try:
        while True:
            pieces.append(os.read(screen, 1 << 16))
    except BlockingIOError:
        return b"".join(pieces)


def test_figures_are_short() -> None:
    assert figures(None) == ""
    assert figures({"loss": 0.123456, "psnr": 26.0}) == "loss 0.1235 psnr 26"
    assert figures({str(i): float(i) for i in range(9)}).count(" ") == 2 * 4 - 1
