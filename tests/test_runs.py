"""Run folders: made once, never overwritten, results whole or absent."""

import json

import pytest

from lit_l2softmax import runs
from lit_l2softmax.errors import RunError


def test_a_run_folder_is_never_used_twice(tmp_path):
    folder = tmp_path / "runs" / "mnist" / runs.new_name()
    runs.create(folder)
    with pytest.raises(RunError, match="cannot be made"):
        runs.create(folder)


def test_names_differ_and_are_known_again():
    names = {runs.new_name() for _ in range(50)}
    assert len(names) == 50
    assert all(map(runs.is_run_name, names))
    assert not runs.is_run_name("20261120-120000-0a1b2c-copy")
    assert not runs.is_run_name("mnist")


def test_a_result_replaces_the_old_one_whole_or_not_at_all(tmp_path):
    runs.write_result(tmp_path, {"test/accuracy": 0.5})
    with pytest.raises(TypeError):
        runs.write_result(tmp_path, {"test/accuracy": object()})
    assert json.loads((tmp_path / "result.json").read_text()) == {"test/accuracy": 0.5}


def test_a_write_that_is_cut_off_leaves_the_old_result(tmp_path, monkeypatch):
    runs.write_result(tmp_path, {"steps": 1})
    original = type(tmp_path).write_bytes

    def cut_off(self, content):
        original(self, content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", cut_off)
    with pytest.raises(OSError, match="No space left"):
        runs.write_result(tmp_path, {"steps": 2})
    monkeypatch.undo()
    assert json.loads((tmp_path / "result.json").read_text()) == {"steps": 1}


def test_discarding_a_run_spares_its_neighbours(tmp_path):
    first, second = (tmp_path / "runs" / "mnist" / runs.new_name() for _ in range(2))
    for folder in (first, second):
        runs.create(folder)
        (folder / "metrics.csv").write_text("")
    runs.discard(first)
    assert not first.exists()
    assert (second / "metrics.csv").exists()
    runs.discard(second)
    assert not (tmp_path / "runs").exists()
