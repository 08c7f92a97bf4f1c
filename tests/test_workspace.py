import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dft_lib.repro import places, seals, workspace
from dft_lib.repro.files import write_json

HOLD = """
import json, os, sys, time
from pathlib import Path
from dft_lib.repro import places, workspace
workspace.SCRATCH = places.ROOT = Path(sys.argv[1])
with workspace.hold("stage", Path("out"), {"a": 1}) as folder:
    (folder / "held").write_text("x")
    time.sleep(60)
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    return tmp_path / "scratch"


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
    with pytest.raises(KeyError), workspace.hold("stage", OUT, {"a": 1}) as first:
        (first / "shard").write_text("x")
        (first / ".shard.123.part").write_text("half")
        raise KeyError
    with workspace.hold("stage", OUT, {"a": 2}) as other:
        assert other != first
    with workspace.hold("stage", OUT, {"a": 1}) as again:
        assert again == first
        assert sorted(p.name for p in again.iterdir()) == ["publish", "shard"]
    with workspace.hold("stage", OUT, {"a": 1}) as anew:
        assert [p.name for p in anew.iterdir()] == ["publish"]


def test_new_code_never_goes_on_from_old_work(scratch, monkeypatch):
    with pytest.raises(KeyError), workspace.hold("stage", OUT, {}) as first:
        raise KeyError
    another = SimpleNamespace(digest=lambda: "another version")
    monkeypatch.setattr(workspace.digests, "library", lambda: another)
    with workspace.hold("stage", OUT, {}) as second:
        assert second != first


def test_a_kernel_whose_runner_is_gone_is_ended(scratch):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    runner = json.dumps([[gone.pid, 1.0]])
    gone.wait()
    process = hold(scratch, runner)
    # other parameters, same output: the stale kernel must not write there later
    with workspace.hold("stage", OUT, {"a": 2}):
        pass
    process.wait(10)
    assert not psutil.pid_exists(process.pid)


def test_a_living_run_is_left_alone(scratch):
    process = hold(scratch, None)
    try:
        with (
            pytest.raises(RuntimeError, match="another run is writing out"),
            workspace.hold("stage", OUT, {"a": 2}),
        ):
            pass
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def made(folder: Path, stage="stage", **files) -> Path:
    write_json(folder / places.MARKER, {"stage": stage})
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_publish_replaces_the_whole_folder(tmp_path, scratch):
    source = made(tmp_path / "source", new="1")
    target = made(tmp_path / "out" / "target", old="0")
    for name in (".target.1.part", ".target.1.old"):  # of a run killed while it published
        (target.parent / name).mkdir()
    (target.parent / ".target.mine.part").mkdir()  # nobody's leftover
    workspace.publish(source, target)
    assert sorted(p.name for p in target.iterdir()) == [places.MARKER, "new"]
    assert sorted(p.name for p in target.parent.iterdir()) == [".target.mine.part", "target"]


@pytest.mark.parametrize("step", ["copytree", "replace", "rmtree"])
def test_a_publication_killed_anywhere_can_be_repeated(tmp_path, scratch, monkeypatch, step):
    source = made(tmp_path / "source", new="1")
    target = made(tmp_path / "out", old="0")
    for call in range(3):

        class Killed(BaseException):
            pass

        calls, module = [], workspace.os if step == "replace" else workspace.shutil
        real = getattr(module, step)

        def dies(*arguments, real=real, calls=calls, call=call, **rest):
            calls.append(1)
            if len(calls) > call:
                raise Killed
            return real(*arguments, **rest)

        with monkeypatch.context() as patch:
            patch.setattr(module, step, dies)
            with contextlib.suppress(Killed):
                workspace.publish(source, target)
        workspace.publish(source, target)
        assert sorted(p.name for p in target.iterdir()) == [places.MARKER, "new"]
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


def test_a_workspace_publishes_its_marker_and_the_same_one_every_time(tmp_path, scratch):
    marks = []
    for _ in range(2):
        with workspace.hold("stage-a", tmp_path / "out", {}) as folder:
            (folder / "publish" / "x").write_text("1")
            workspace.publish(folder / "publish", tmp_path / "out")
        marks.append((tmp_path / "out" / places.MARKER).read_bytes())
    assert marks[0] == marks[1] == b'{\n  "stage": "stage-a"\n}\n'
    with pytest.raises(ValueError, match="only what a stage made is published"):
        workspace.publish(tmp_path, tmp_path / "other")


def test_a_foreign_folder_stops_before_any_work(tmp_path, scratch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis").write_text("years")
    with (
        pytest.raises(ValueError, match="stage may not write to .*which no stage made"),
        workspace.hold("stage", out, {}),
    ):
        raise AssertionError("work began")
    assert (out / "thesis").read_text() == "years" and not scratch.exists()


def test_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = seals.hash_of(tmp_path)
    (tmp_path / "a").write_text("2")
    second = seals.hash_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, seals.hash_of(tmp_path)}) == 3


def test_a_damaged_owner_is_nobody(scratch):
    process = hold(scratch, None)
    try:
        for text in ("{}", "[]", '{"runners": [], "worker": 1}', "\0"):
            next(scratch.glob("*/owner.json")).write_text(text)
            with (
                pytest.raises(RuntimeError, match="another run is writing out"),
                workspace.hold("stage", OUT, {"a": 2}),
            ):
                pass
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
