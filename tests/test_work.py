import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dft_lib.repro import workspace

HOLD = """
import json, os, sys, time
from pathlib import Path
from dft_lib import work
workspace.SCRATCH = Path(sys.argv[1])
with workspace.workspace("stage", Path("out"), {"a": 1}) as folder:
    (folder / "held").write_text("x")
    time.sleep(60)
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "SCRATCH", tmp_path)
    return tmp_path


def hold(scratch, runner: str | None):
    environment = {**__import__("os").environ}
    if runner is not None:
        environment[workspace.RUNNER_VARIABLE] = runner
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(scratch)], env=environment)
    deadline = time.time() + 60
    while not list(scratch.glob("*/*/held")):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.1)
    return process


OUT = Path("out")


def test_unfinished_work_is_found_again_and_finished_work_is_done_anew(scratch):
    with pytest.raises(KeyError), workspace.workspace("stage", OUT, {"a": 1}) as first:
        (first / "shard").write_text("x")
        (first / ".shard.123.part").write_text("half")
        raise KeyError
    with workspace.workspace("stage", OUT, {"a": 2}) as other:
        assert other != first
    with workspace.workspace("stage", OUT, {"a": 1}) as again:
        assert again == first
        assert [p.name for p in again.iterdir()] == ["shard"]
    with workspace.workspace("stage", OUT, {"a": 1}) as anew:
        assert list(anew.iterdir()) == []


def test_new_code_never_goes_on_from_old_work(scratch, monkeypatch):
    with pytest.raises(KeyError), workspace.workspace("stage", OUT, {}) as first:
        raise KeyError
    monkeypatch.setattr(workspace, "_code", lambda: "another version")
    with workspace.workspace("stage", OUT, {}) as second:
        assert second != first


def test_a_kernel_whose_runner_is_gone_is_ended(scratch):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    runner = json.dumps([[gone.pid, 1.0]])
    gone.wait()
    process = hold(scratch, runner)
    # other parameters, same output: the stale kernel must not write there later
    with workspace.workspace("stage", OUT, {"a": 2}):
        pass
    process.wait(10)
    assert not psutil.pid_exists(process.pid)


def test_a_living_run_is_left_alone(scratch):
    process = hold(scratch, None)
    try:
        with (
            pytest.raises(RuntimeError, match="another run is writing out"),
            workspace.workspace("stage", OUT, {"a": 2}),
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
    left = target.with_name(".target.1.part")  # of a run that was killed while it published
    left.mkdir()
    workspace.publish(source, target)
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = workspace.hash_of(tmp_path)
    (tmp_path / "a").write_text("2")
    second = workspace.hash_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, workspace.hash_of(tmp_path)}) == 3
