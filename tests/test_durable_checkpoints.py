"""Checkpoints that stay: of a killed process, on a full disk, in a folder nobody may write, with a bit flipped."""

import errno
import os
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from run_records import result_of

from lit_l2softmax.__main__ import main
from lit_l2softmax.durable_checkpoints import DurableCheckpointIO, check, damage
from lit_l2softmax.errors import RunError


def state(number):
    return {"state_dict": {"weight": torch.full((300, 1000), float(number))}, "number": number}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    DurableCheckpointIO().save_checkpoint(state(1), path)
    return path


def test_what_is_saved_is_loaded_and_nothing_else_is_left(saved):
    DurableCheckpointIO().save_checkpoint(state(2), saved)
    loaded = DurableCheckpointIO().load_checkpoint(saved, map_location="cpu", weights_only=True)
    assert loaded["number"] == 2
    assert loaded["state_dict"]["weight"].equal(state(2)["state_dict"]["weight"])
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]
    assert damage(saved) is None


def test_fifty_kills_during_saves_lose_nothing(tmp_path):
    """A process saves one state after another until it is killed; what is there then is one of them, whole."""
    script = textwrap.dedent("""
        import os, pathlib, random, signal, sys, time
        import torch
        from lit_l2softmax.durable_checkpoints import DurableCheckpointIO, damage
        torch.set_num_threads(1)
        place, last, torn = pathlib.Path(sys.argv[1]), 0, 0
        weight, started = torch.zeros(300, 1000), time.perf_counter()
        for _ in range(3):
            DurableCheckpointIO().save_checkpoint({"weight": weight, "number": last}, place)
        takes = (time.perf_counter() - started) / 3
        def number():
            return torch.load(place, weights_only=True)["number"]
        for round in range(50):
            child = os.fork()
            if child == 0:
                while True:
                    last += 1
                    weight = torch.full((300, 1000), float(last))
                    DurableCheckpointIO().save_checkpoint({"weight": weight, "number": last}, place)
            time.sleep(random.uniform(0, 3 * takes))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            torn += place.with_name("last.ckpt.part").is_file()
            assert damage(place) is None, damage(place)
            assert number() >= last
            last = number()
        print(last, torn)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "last.ckpt"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    last, torn = map(int, done.stdout.split())
    assert last > 10
    assert torn > 5  # or they were not killed while they saved


def test_a_full_disk_keeps_the_one_before_and_says_so(saved):
    script = textwrap.dedent("""
        import resource, signal, sys
        import torch
        from lit_l2softmax.durable_checkpoints import DurableCheckpointIO
        from lit_l2softmax.errors import RunError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for room in (1_000_000, 1000, 0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            try:
                DurableCheckpointIO().save_checkpoint({"weight": torch.ones(300, 1000)}, sys.argv[1])
            except RunError as error:
                print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, saved], capture_output=True, text=True, timeout=120, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert line.startswith(f"the checkpoint {saved} could not be written: ")
        assert line.endswith("; the one before is kept")
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(saved, weights_only=True)["number"] == 1


@pytest.mark.parametrize("call", ["open", "replace"])
def test_a_folder_that_cannot_be_written_keeps_the_one_before_and_says_so(saved, monkeypatch, call):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(RunError, match="could not be written: Read-only file system; the one before is kept"):
        DurableCheckpointIO().save_checkpoint(state(2), saved)
    monkeypatch.undo()
    assert torch.load(saved, weights_only=True)["number"] == 1
    assert len(list(saved.parent.iterdir())) == 1


def test_file_and_folder_are_on_the_disk_before_anybody_believes_it(saved, monkeypatch):
    done, fsync, replace = [], os.fsync, Path.replace
    kind = lambda number: "folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file"  # noqa: E731, PTH112
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(kind(number)), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("replace"), replace(self, to)))
    DurableCheckpointIO().save_checkpoint(state(2), saved)
    assert done == ["file", "replace", "folder"]


def test_any_bit_that_flips_is_found(saved):
    whole, generator = saved.read_bytes(), random.Random(0)
    # Most bytes are numbers of a tensor, so half of the places are near the ends, where the archive's own words are.
    places = [generator.randrange(len(whole)) for _ in range(30)]
    places += [generator.randrange(200) for _ in range(10)] + [
        len(whole) - 1 - generator.randrange(200) for _ in range(10)
    ]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << generator.randrange(8)
        saved.write_bytes(flipped)
        try:
            check(saved)
        except RunError:
            continue
        try:
            loaded = torch.load(saved, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError):  # a name in the archive, which has no checksum
            continue
        assert loaded["number"] == 1
        assert loaded["state_dict"]["weight"].equal(state(1)["state_dict"]["weight"])


def test_a_way_of_compression_that_is_none_is_damage(saved):
    content = bytearray(saved.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 8  # "deflated", of a first record that is not
    saved.write_bytes(content)
    with pytest.raises(RunError, match="is damaged"):
        check(saved)


def test_a_folder_that_cannot_be_put_on_the_disk_by_itself_is_no_failure(saved, monkeypatch):
    fsync = os.fsync

    def refuse(number):
        if os.path.isdir(f"/proc/self/fd/{number}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(number)

    monkeypatch.setattr(os, "fsync", refuse)
    DurableCheckpointIO().save_checkpoint(state(2), saved)
    assert torch.load(saved, weights_only=True)["number"] == 2


@pytest.mark.parametrize("size", [0, 1, 100, 100_000, -1])
def test_a_file_that_was_cut_off_is_one_line(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(RunError, match=r"last\.ckpt is damaged or not a checkpoint of weights alone: \w+"):
        DurableCheckpointIO().load_checkpoint(saved)


def test_a_file_that_is_no_archive_or_not_there_is_one_line(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(RunError, match="damaged or not a checkpoint"):
        check(tmp_path / "x.ckpt")
    with pytest.raises(RunError, match=r"y\.ckpt cannot be read: No such file or directory"):
        check(tmp_path / "y.ckpt")
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        check(tmp_path)


OPTIONS = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--data.source=digits", "--data.batch_size=8"]


def test_a_training_saves_so_and_ends_in_one_line_where_it_cannot(fit, monkeypatch):
    run, _ = fit("mnist", *OPTIONS)
    checkpoint = run / "checkpoints" / "last.ckpt"
    flipped = bytearray(checkpoint.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    checkpoint.write_bytes(flipped)
    _, printed = fit("mnist", *OPTIONS, "--trainer.max_steps=6", f"--ckpt_path={checkpoint}", expect=2)
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {checkpoint} is damaged or not a checkpoint")
    saves = DurableCheckpointIO.save_checkpoint

    def full_at_the_second_validation(self, checkpoint, path, storage_options=None):
        if checkpoint["global_step"] == 4:
            raise RunError(f"the checkpoint {path} could not be written: No space left on device")
        saves(self, checkpoint, path, storage_options)

    monkeypatch.setattr(DurableCheckpointIO, "save_checkpoint", full_at_the_second_validation)
    run, printed = fit("mnist", *OPTIONS, expect=2)
    assert "could not be written: No space left on device" in printed.err
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("name", ["TorchCheckpointIO", pytest.param("AsyncCheckpointIO", marks=pytest.mark.slow)])
def test_another_way_to_write_checkpoints_can_be_named(fit, monkeypatch, name):
    monkeypatch.setattr(DurableCheckpointIO, "save_checkpoint", lambda *_: pytest.fail("it was not asked"))
    plugin = f"--trainer.plugins=lightning.pytorch.plugins.{name}"
    run, _ = fit("mnist_tutorial", "--trainer.max_steps=1", "--data.source=digits", plugin)
    assert result_of(run)["steps"] == 1
    assert main(["test", f"--run={run}"]) == 0
