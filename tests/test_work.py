import json
import subprocess
import sys
import time

import psutil
import pytest

from dft_lib import work

HOLD = """
import json, os, sys, time
from pathlib import Path
from dft_lib import work
work.SCRATCH = Path(sys.argv[1])
with work.workspace("stage", {"a": 1}) as folder:
    (folder / "held").write_text("x")
    time.sleep(60)
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "SCRATCH", tmp_path)
    return tmp_path


def hold(scratch, runner: str | None):
    environment = {**__import__("os").environ}
    if runner is not None:
        environment[work.RUNNER_VARIABLE] = runner
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(scratch)], env=environment)
    deadline = time.time() + 60
    while not list(scratch.glob("*/held")):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.1)
    return process


def test_other_parameters_get_another_folder(scratch):
    with work.workspace("stage", {"a": 1}) as first, work.workspace("stage", {"a": 2}) as second:
        assert first != second
    with work.workspace("stage", {"a": 1}) as again:
        assert again == first


def test_a_kernel_whose_runner_is_gone_is_ended(scratch):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    runner = json.dumps([[gone.pid, 1.0]])
    gone.wait()
    process = hold(scratch, runner)
    with work.workspace("stage", {"a": 1}) as folder:
        assert (folder / "held").exists()
    process.wait(10)
    assert not psutil.pid_exists(process.pid)


def test_a_living_run_is_left_alone(scratch):
    process = hold(scratch, None)
    try:
        with (
            pytest.raises(RuntimeError, match="another run is working"),
            work.workspace("stage", {"a": 1}),
        ):
            pass
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_publish_replaces_the_whole_folder(tmp_path):
    source, target = tmp_path / "source", tmp_path / "out" / "target"
    source.mkdir()
    (source / "new").write_text("1")
    target.mkdir(parents=True)
    (target / "old").write_text("0")
    work.publish(source, target)
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = work.hash_of(tmp_path)
    (tmp_path / "a").write_text("2")
    second = work.hash_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, work.hash_of(tmp_path)}) == 3
