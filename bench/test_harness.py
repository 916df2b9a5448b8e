"""The harness itself: what two providers of known speed become, from the clock to the picture."""

import time

import harness
import machine
import memory
import plots
import pytest
import records
import torch


def provider(seconds):
    def run(calls):
        time.sleep(seconds * calls)
        return seconds * calls

    return run


@pytest.fixture
def timings(monkeypatch):
    monkeypatch.setattr(harness, "ROUND_S", 0.01)
    return harness.time_in_turn({"slow": provider(2e-3), "fast": provider(1e-3)}, "slow", calls_multiple=2)


def row(timing, provider, **changes):
    values = {
        "benchmark": "sleep",
        "case": "short",
        "provider": provider,
        "time_ms": 1e3 * timing.time_s.median,
        "time_ms_q1": 1e3 * timing.time_s.q1,
        "time_ms_q3": 1e3 * timing.time_s.q3,
        "baseline": "slow",
        "speedup": timing.speedup.median,
        "speedup_q1": timing.speedup.q1,
        "speedup_q3": timing.speedup.q3,
        "rate": None,
        "rate_unit": "",
        "calls": timing.calls,
        "peak_extra_mib": None,
        "gigabytes": None,
        "gigaoperations": None,
        "copy_gb_s": None,
        "matmul_gop_s": None,
        "note": "",
        "device": "a clock",
        "threads": 1,
        "python": "3",
        "torch": "2",
        "lightning": "2",
        "commit": "0",
    }
    return records.Row(**values | changes)


def test_a_provider_twice_as_fast_has_a_speedup_of_two(timings):
    assert timings["fast"].speedup.median == pytest.approx(2)
    assert timings["slow"].speedup.median == 1
    assert timings["fast"].time_s.median == pytest.approx(1e-3)
    assert {name: timing.calls % 2 for name, timing in timings.items()} == {"slow": 0, "fast": 0}


def test_rows_survive_their_file_and_are_replaced_case_by_case(timings, tmp_path):
    first = [row(timings[name], name) for name in ("slow", "fast")]
    other = row(timings["slow"], "slow", case="other")
    file = tmp_path / "results" / "a.csv"
    records.write(file, [*first, other])
    stored = records.read(file)
    assert [r.key for r in stored] == [r.key for r in (*first, other)]
    assert stored[1].speedup == pytest.approx(2)
    assert records.read(tmp_path / "absent.csv") == []
    merged = records.merged(stored, [row(timings["fast"], "fast", commit="1")])
    assert [(r.case, r.provider, r.commit) for r in merged] == [("other", "slow", "0"), ("short", "fast", "1")]


def test_a_change_is_told_against_the_stored_row(timings):
    before = row(timings["fast"], "fast", speedup=1.0, speedup_q1=0.9, speedup_q3=1.1)
    assert records.change(row(timings["fast"], "fast"), [before]) == "+100% *"
    assert records.change(row(timings["slow"], "slow"), [before]) == ""
    assert records.change(row(timings["fast"], "fast", threads=8), [before]) == ""


def test_a_benchmark_becomes_a_picture(timings, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    (path,) = plots.draw([row(timings[name], name) for name in ("fast", "slow")])
    assert path.name == "a-clock-sleep.png"
    assert path.stat().st_size > 5000


def test_this_machine_has_a_name_and_a_commit():
    here = machine.this_machine()
    assert here.device
    assert here.threads >= 1
    assert here.commit


def test_memory_is_what_was_held_at_once_at_most():
    def call():
        first = torch.ones(2**18, device=memory.DEVICE) + 1
        del first
        return torch.ones(2**17, device=memory.DEVICE)

    assert memory.peak_extra_bytes(call) == pytest.approx(2 * 4 * 2**18, rel=1e-4)  # and some scalars
