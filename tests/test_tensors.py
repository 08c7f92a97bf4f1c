"""A checkpoint is gone on from only if it is what was written."""

import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dft_lib.repro.tensors import first_broken, load_training_state, save_training_state


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return {
        "a": torch.nn.Parameter(torch.randn(3, 4)),
        "b": torch.nn.Parameter(torch.randn(2).to(torch.bfloat16)),
    }


def optimizer_of(trained, steps=2):
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1)
    for _ in range(steps):
        for parameter in trained.values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return optimizer


def fresh(trained):
    return {k: torch.nn.Parameter(torch.zeros_like(p)) for k, p in trained.items()}


def resaved(path, change):
    """Write the tensors again with a change, under the checksum that was there."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a bit": flip,
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-10]),
    "empty": lambda p: p.write_bytes(b""),
    "garbage": lambda p: p.write_bytes(b"\xff" * 200),
    "a header without end": lambda p: p.write_bytes(struct.pack("<Q", 2**40) + b"{"),
    "a parameter removed": lambda p: resaved(p, lambda t: t.pop("parameter/a")),
    "a moment removed": lambda p: resaved(p, lambda t: t.pop("optimizer/a/exp_avg")),
    "another step": lambda p: resaved(p, lambda t: t.update(step=torch.tensor(7))),
    "another type": lambda p: resaved(p, lambda t: t.update({"extra/x": t["extra/x"].double()})),
    "zeroed": lambda p: resaved(p, lambda t: t["parameter/a"].zero_()),
    "no checksum": lambda p: save_file(load_file(p), p),
}


def test_round_trip_and_equal_bytes(trained, tmp_path):
    optimizer, path = optimizer_of(trained), tmp_path / "state"
    for copy in (path, tmp_path / "again"):
        save_training_state(copy, 2, trained, optimizer, {"x": torch.arange(3.0)})
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    other = fresh(trained)
    found = optimizer_of(other, 0)
    step, extra = load_training_state(path, other, found)
    assert step == 2 and torch.equal(extra["x"], torch.arange(3.0))
    for name, parameter in trained.items():
        assert torch.equal(other[name], parameter)
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(found.state[other[name]][key], value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_changes_nothing_and_goes(trained, tmp_path, caplog, damage):
    path = tmp_path / "state"
    save_training_state(path, 2, trained, optimizer_of(trained), {"x": torch.arange(3.0)})
    DAMAGES[damage](path)
    other = fresh(trained)
    optimizer = optimizer_of(other, 0)
    assert load_training_state(path, other, optimizer) == (0, {})
    assert not any(p.any() for p in other.values()) and not optimizer.state
    assert not path.exists()
    (said,) = [r.getMessage() for r in caplog.records]
    assert "is damaged" in said and "training begins anew" in said


def test_no_checkpoint_is_no_news(trained, tmp_path, caplog):
    assert load_training_state(tmp_path / "state", trained, optimizer_of(trained)) == (0, {})
    assert not caplog.records


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_first_broken(value):
    whole = {"a": torch.zeros(3), "n": torch.arange(3)}
    assert first_broken(whole) is None
    assert first_broken(whole | {"b": torch.tensor([0, value])}) == "b"
