"""The harness itself: what two providers of known speed become, from the clock to the picture."""

import subprocess
import sys
import time

import directions
import faults
import harness
import limits
import machine
import memory
import peers
import plots
import pytest
import records
import summary
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


def test_what_a_machine_reaches_is_told_against_the_slower_of_its_two_limits(timings):
    work = {"gigabytes": 1.0, "gigaoperations": 10.0, "copy_gb_s": 1000.0}
    moves = row(timings["fast"], "fast", time_ms=4.0, matmul_gop_s=1e6, **work)
    multiplies = row(timings["fast"], "fast", time_ms=4.0, matmul_gop_s=5e3, **work)
    assert moves.share_of_limit == pytest.approx(1 / 4)
    assert multiplies.share_of_limit == pytest.approx(2 / 4)
    assert row(timings["fast"], "fast").share_of_limit is None


def test_limits_are_those_of_this_machine(monkeypatch):
    monkeypatch.setattr(limits, "COPY_BYTES", 2**22)
    monkeypatch.setattr(limits, "SIDE", 128)
    found = limits.limits.__wrapped__(torch.float32)
    assert found.copy_gb_s > 0.1
    assert found.matmul_gop_s > 0.1


def test_a_page_compares_ours_with_the_best_of_the_others_and_says_what_they_do_wrong(timings, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    absent = dict.fromkeys(("time_ms", "time_ms_q1", "time_ms_q3", "speedup", "speedup_q1", "speedup_q3"))
    rows = [
        row(timings["slow"], "slow", time_ms=8.0, peak_extra_mib=4.0, note="forgets"),
        row(timings["fast"], records.OURS, time_ms=2.0, peak_extra_mib=1.0),
        row(timings["fast"], "other", time_ms=3.0, peak_extra_mib=9.0),
        row(timings["fast"], "absent", note="no driver", **absent),
        row(timings["fast"], "nobody compares", case="alone"),
    ]
    text = summary.write(rows).read_text()
    assert "| short | 2 | other, 3 ms | 1.50 x | 1 | 4 |  |" in text
    assert "- slow: forgets" in text
    assert "- absent: no driver" in text
    assert "alone" not in text
    assert [path.name for path in plots.draw(rows)] == ["a-clock-sleep.png"]  # what cannot run is not in the picture


def test_a_roofline_is_drawn_of_what_has_limits(timings, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    work = {"gigabytes": 1.0, "gigaoperations": 10.0, "copy_gb_s": 1000.0, "matmul_gop_s": 1e6}
    _, roofline = plots.draw([row(timings["fast"], name, **work) for name in ("fast", records.OURS)])
    assert roofline.name == "a-clock-roofline-of-sleep.png"
    assert roofline.stat().st_size > 5000


def test_what_is_not_the_same_computation_is_not_timed():
    x = torch.randn(4, 3, requires_grad=True)
    functions = {"eager": lambda x: x.exp().sum(), "same": lambda x: (2 * (x / 2)).exp().sum()}
    off = {"off": lambda x: 1.001 * x.exp().sum()}
    assert directions.check(functions, [x], terms=12) == {}
    with pytest.raises(AssertionError, match="times as far off as allowed"):
        directions.check(functions | off, [x], terms=12)
    assert "times as far off" in directions.check(functions | off, [x], terms=12, peers={"off"})["off"]


def test_who_cannot_go_backward_twice_is_no_provider_of_that():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.spent = False
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            if ctx.spent:
                raise RuntimeError("spent\nand more")
            ctx.spent = True
            return grad

    x = torch.randn(3, device=memory.DEVICE, requires_grad=True)
    functions = {"often": lambda x: x.sum(), "once": lambda x: Once.apply(x).sum()}
    timed, calls, failures = directions.providers(functions, [x], "backward")
    assert set(timed) == set(calls) == {"often"}
    assert failures == {"once": "spent"}
    assert directions.providers(functions, [x], "forward and backward")[2] == {}


IN_THIS_PROCESS = pytest.mark.skipif(memory.DEVICE == "cuda", reason="a bad target is the end of a device's process")


@IN_THIS_PROCESS
def test_ours_has_no_fault_and_each_of_eager_pytorchs_is_found():
    assert list(filter(None, faults.answers(peers.ours))) == []
    found = "; ".join(filter(None, faults.answers(peers.eager)))
    assert "a loss in bfloat16" in found
    assert "at a zero row" in found
    assert "a bad target is refused without its row" in found


@IN_THIS_PROCESS
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda loss, x, w: loss(x.detach(), w), "no gradient for features beside frozen class weights"),
        (lambda loss, x, w: loss(x, w.detach()), "no gradient for class weights beside frozen features"),
        (lambda loss, x, w: loss(x, w) + 1e-3 * torch.rand((), device=x.device) * x.sum(), "not the same bits twice"),
    ],
)
def test_a_fault_is_named(broken, said):
    def make(problem):
        loss = peers.ours(problem)
        return lambda x, w: broken(loss, x, w)

    assert said in "; ".join(faults.answers(make))


@pytest.mark.parametrize(
    ("status", "answered", "found"),
    [
        (-6, 7, "the first; bad target: ends the process"),
        (1, 1, "the first; frozen side: ends the process"),
        (1, 8, "the first"),  # an error of the device, behind the last answer
        (0, 0, ""),  # a peer that cannot run here
    ],
)
def test_the_question_that_ends_a_process_is_named(status, answered, found, monkeypatch):
    printed = "".join(["the first\n", *["\n"] * 7][:answered])
    monkeypatch.setattr(faults.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], status, printed))
    assert faults._asked(peers.EAGER) == found


def test_the_best_of_several_is_the_fastest_after_a_first_call():
    calls = dict.fromkeys(("begins slowly", "slow"), 0)

    def waiting(name, seconds):
        def loss(x, w):
            time.sleep(seconds[min(calls[name], 1)])
            calls[name] += 1
            return x.sum() + w.sum()

        return loss

    losses = {"slow": waiting("slow", (0, 0.02)), "begins slowly": waiting("begins slowly", (0.04, 0))}
    inputs = [torch.ones(1, device=memory.DEVICE, requires_grad=True) for _ in range(2)]
    assert peers.fastest(losses, inputs) == ("begins slowly", losses["begins slowly"])


def test_no_case_is_started_when_the_time_is_over():
    case = ["bench/bench_l2_softmax_cross_entropy.py", "-k", "1024"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *case, "--benchmark-seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=machine.ROOT)
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
