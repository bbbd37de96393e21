"""The benchmarks' own arithmetic; nothing here is timed, and no peer is needed."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest

# The programs in benchmarks/ are no package: they import each other as neighbours.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import accuracy
import bounds
import kernels
from cases import CASES, DISTORTED, FEATURES, GROUPS, Case
from compare import chosen_cases
from footprint import Footprint
from measure import Check, orders
from peers import FLOAT32_LOSS, PEERS
from problems import SEED, Data, Problem, he_normal
from process import environment
from report import case_table, targets_table
from results import CaseResults, PeerResult, Run, Turn
from targets import TARGETS, Target, of_ceiling, speed_up, verdicts
from verify import VerificationError

from fastmlp.benchmark import order_of_fit

CASE = Case("tiny", (2, 3, 2), batch_size=5, steps=10, quick_steps=10)


def peer_result(*seconds, name="fastmlp", fma=100.0, bf16=200.0):
    """Make a peer whose turns of 10 steps took so many seconds."""
    ceilings = {"fma_gflops": fma, "fma_256_gflops": fma / 2, "bf16_gflops": bf16, "copy_gb_per_second": 10.0}
    return PeerResult(
        {"version": "1", "setting": "fast", "includes": "all", "tolerance": None, "thread_pools": {}},
        PEERS[name].ceiling,
        threads=2,
        first_run_seconds=1.0,
        losses=[0.5],
        test_accuracy=0.9,
        peak_memory_bytes=10**8,
        largest_deviation=None,
        turns=[Turn(time, 10, ceilings) for time in seconds],
    )


def run_of(cases, **facts):
    machine = {"cpu": "a CPU"}
    return Run("abc", machine, {}, threads=2, quick=True, no_ceilings=None, cases=cases, **facts)


def case_results(case=CASE, **seconds_of_peers):
    peers = {
        name.replace("_", "-"): peer_result(*seconds, name=name.replace("_", "-"))
        for name, seconds in seconds_of_peers.items()
    }
    return CaseResults(case, "data", peers)


def test_orders_of_as_many_rounds_as_peers_give_each_peer_each_place_once():
    names = ["a", "b", "c", "d", "e"]
    rounds = orders(names, len(names))
    assert all(sorted(order) == names for order in rounds)
    firsts = [order[0] if i % 2 == 0 else order[-1] for i, order in enumerate(rounds)]
    assert firsts == names
    assert orders(names, 2)[1] == ["a", "e", "d", "c", "b"]  # rotated by one, then reversed


def test_flops_of_the_lesson_count_three_products_but_for_the_input_gradient():
    hidden, output = 784 * 200, 200 * 10
    assert CASES["lesson"].flops_per_step == 2 * 1000 * (2 * hidden + 3 * output)
    assert CASES["predict1"].flops_per_step == 2 * (hidden + output)


def test_bytes_of_a_step_are_the_batch_and_three_arrays_read_and_written():
    assert CASES["lesson"].bytes_per_step == 1000 * 784 + 3 * 2 * 4 * (784 * 200 + 200 * 10)
    more = CASES["dense"].bytes_per_step - CASES["lesson"].bytes_per_step
    assert more == 1000 * 784 * 3  # float32 instead of bytes


def test_ratios_compare_turns_of_the_same_round():
    results = case_results(fastmlp=[1.0, 2.0, 4.0], numpy=[3.0, 6.0, 12.0])
    assert results.ratios("numpy") == [3.0, 3.0, 3.0]
    assert results.ratios("fastmlp", base="numpy") == pytest.approx([1 / 3] * 3)
    assert results.by_ratio() == ["fastmlp", "numpy"]


def test_fractions_take_the_ceiling_of_the_peers_own_products():
    rate = CASE.flops_per_step / 0.1 * 1e-9  # GFLOPS of a turn of 1 s with 10 steps
    results = case_results(fastmlp=[1.0], fastmlp_bf16=[1.0], fastmlp_avx2=[1.0])
    assert results.fractions("fastmlp") == pytest.approx([rate / 100])
    assert results.fractions("fastmlp-bf16") == pytest.approx([rate / 200])
    assert results.fractions("fastmlp-avx2") == pytest.approx([rate / 50])
    assert results.fractions("fastmlp-bf16", "fma_gflops") == pytest.approx([rate / 100])


def test_fractions_without_a_ceiling_are_none():
    peer = peer_result(1.0, name="fastmlp-bf16", bf16=None)
    results = CaseResults(CASE, "data", {"fastmlp-bf16": peer})
    assert results.fractions("fastmlp-bf16") == []
    assert of_ceiling("tiny", "fastmlp-bf16", 0.8, 0.9).measure(run_of({"tiny": results})) is None


def test_speed_up_against_several_is_that_against_the_fastest():
    results = case_results(fastmlp_bf16=[1.0, 1.0], torch_bf16=[3.0, 3.0], torch_bf16_compile=[2.0, 2.0])
    others = ("torch-bf16", "torch-bf16-compile")
    verdict = speed_up("tiny", "fastmlp-bf16", others, 1.5, 2.5).judge(run_of({"tiny": results}))
    assert (verdict.measured, verdict.floor_reached, verdict.goal_reached) == (2.0, True, False)


def test_target_of_what_was_not_measured_is_neither_reached_nor_missed():
    target = speed_up("tiny", "fastmlp", "jax", 2.0)
    for run in (run_of({}), run_of({"tiny": case_results(fastmlp=[1.0])})):
        verdict = target.judge(run)
        assert (verdict.measured, verdict.floor_reached, verdict.goal_reached) == (None, None, None)


@pytest.mark.parametrize(("value", "reached"), [(49.0, True), (50.0, True), (51.0, False)])
def test_target_of_at_most_is_reached_up_to_its_bound(value, reached):
    verdict = Target("time", lambda _: value, 50, at_most=True).judge(run_of({}))
    assert verdict.floor_reached is reached


def test_every_target_finds_its_figure_in_a_run_of_all_cases():
    cases = {
        name: CaseResults(case, "data", {peer: peer_result(1.0, name=peer) for peer in case.peers})
        for name, case in CASES.items()
    }
    footprint = Footprint({"fastmlp": 0.02}, 10**8, "fastmlp.whl", 10**6)
    accuracies = {"float32": [0.98, 0.97], "mixed_bfloat16": [0.979, 0.969]}
    judged = verdicts(run_of(cases, footprint=footprint, accuracies=accuracies))
    assert len(judged) == len(TARGETS)
    assert all(verdict.measured is not None for verdict in judged)
    assert judged[-1].measured == pytest.approx(0.1)  # percentage points
    assert len(targets_table(judged).splitlines()) == len(TARGETS) + 1


def test_table_has_a_row_per_peer_with_the_fastest_first():
    lines = case_table(case_results(fastmlp=[1.0], numpy=[3.0], jax=[2.0])).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["fastmlp", "jax", "numpy"]
    assert "3.00" in lines[3]


def test_saved_run_is_json_with_every_case(tmp_path):
    path = tmp_path / "runs" / "run.json"
    run_of({"tiny": case_results(fastmlp=[1.0, 2.0])}).save(path)
    assert '"tiny"' in path.read_text()


def test_cases_have_known_peers_that_can_do_what_is_asked():
    for name, case in CASES.items():
        assert case.name == name
        assert all(PEERS[peer].can(case.kind) for peer in case.peers)
        assert 1 <= case.quick_steps <= case.steps
    assert GROUPS["all"] == tuple(CASES)


@pytest.mark.parametrize("name", dict.fromkeys((*DISTORTED, *FEATURES)))
def test_fit_with_a_feature_has_the_losses_it_should_have(name):
    problem = problem_of_random_pixels()
    peer = trained_by(name, problem)
    plain = trained_by("fastmlp", problem)
    assert [array.shape for array in peer.parameters()[1]] == [(12,), (10,)]
    assert Check(problem)("fastmlp", {"losses": plain.losses()}, plain.tolerance) < FLOAT32_LOSS
    deviation = Check(problem)(name, {"losses": peer.losses()}, peer.tolerance)
    if deviation is None:  # then the feature must be on
        assert not np.array_equal(peer.losses(), plain.losses())


def test_check_of_losses_without_the_distortion_that_was_asked_for_names_the_peer():
    problem = problem_of_random_pixels()
    plain = trained_by("fastmlp", problem)
    with pytest.raises(VerificationError, match="fastmlp-elastic: the loss of step"):
        Check(problem)("fastmlp-elastic", {"losses": plain.losses()}, FLOAT32_LOSS)


def problem_of_random_pixels():
    case = Case("tiny", (784, 12, 10), batch_size=20, steps=5, quick_steps=5, checked_steps=4)
    generator = np.random.default_rng(0)
    X = (generator.integers(0, 256, (80, 784)) * (generator.random((80, 784)) < 0.2)).astype(np.uint8)
    y = generator.integers(0, 10, 80).astype(np.uint8)
    order = order_of_fit(len(X), case.batch_size, case.steps, SEED)
    return Problem(case, Data("random", X, y, X, y), order, *he_normal(case.layer_sizes))


def trained_by(name, problem):
    peer = PEERS[name].load("fit")(problem, threads=1)
    peer.reset(problem.order)
    peer.train()
    return peer


def test_chosen_cases_of_a_group_and_a_member_hold_each_case_once():
    assert chosen_cases("big, avx2,avx2-big") == ["big", "avx2-dense", "avx2-big"]
    with pytest.raises(SystemExit):
        chosen_cases("bigger")


def test_environment_of_a_worker_forces_no_kernels_but_its_own(monkeypatch):
    for name in ("FASTMLP_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        monkeypatch.setenv(name, "something")
    plain = environment(3)
    assert not {"FASTMLP_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & plain.keys()
    assert plain["OMP_NUM_THREADS"] == "3"
    assert environment(3, {"FASTMLP_ISA": "avx2"})["FASTMLP_ISA"] == "avx2"
    assert os.environ["FASTMLP_ISA"] == "something"


def test_quick_case_differs_in_the_work_of_a_turn_alone():
    case = Case("tiny", (2, 3, 2), batch_size=5, steps=10, quick_steps=4, repeats=12)
    assert case.quick() == dataclasses.replace(case, steps=4, repeats=3)


def test_table_of_accuracies_in_the_docs_is_that_of_the_results():
    document = (Path(__file__).resolve().parents[1] / "docs" / "accuracy.md").read_text()
    assert accuracy.table() in document


def test_bounds_are_the_products_at_the_ceiling_and_adam(monkeypatch):
    # 100 GFLOPS and 2 ns a weight on one of two threads; dense data, so that no product is left out.
    case = Case("dense", (100, 50, 20), batch_size=1000, steps=1, quick_steps=1, data="dense")
    monkeypatch.setitem(bounds.CASES, "dense", case)
    measured = {
        "ceilings": {"fma_gflops": {"median": 100.0}, "bf16_gflops": None},
        "peers": {
            "fastmlp": {"threads": 2, "ms_per_step": {"median": 0.5}},
            "jax": {"threads": 2, "ms_per_step": {"median": 1.0}},
        },
    }
    target = speed_up("dense", "fastmlp", "jax", 1.25)
    run = {"cases": {"dense": measured}, "threads": 2}
    name, *numbers = bounds.row_of(target, run, 2e-9)
    assert name == target.name
    # 26 MFLOP in products: 0.26 ms; 6,000 weights: 0.006 ms
    assert numbers == ["1", "1.25", "0.8", "0.5", "0.26", "0.006", "0.266", "3.76x", "2.00x"]
    bfloat16 = speed_up("dense", "fastmlp-bf16", "jax", 2.4)
    assert bounds.row_of(bfloat16, run, 2e-9) is None


class FakeKernels:
    """Takes a second for each workload, less with a larger row_block."""

    def ask(self, *, request, set, workload, seconds, size, value):
        assert (request, set) == ("measure", "avx2")
        return {"seconds": 1.0 if size == "none" else 96 / value, "flops": 1e9, "executed_flops": 0.0}


def test_sizes_of_blocks_are_tried_in_turn_and_compared_with_the_size_as_it_is():
    variants = kernels.variants("row_block=192,384")
    timed = kernels.measure(FakeKernels(), [], ["avx2"], ["step_32"], variants, 3)["avx2"]
    assert list(timed) == ["step_32", "step_32, row_block=192", "step_32, row_block=384"]
    assert [each.ratios for each in timed.values() if each.against] == [[2.0] * 3, [4.0] * 3]


def test_a_size_that_no_set_has_cannot_be_tried(capsys):
    facts = {"sizes": ["depth_block", "row_block"]}
    kernels.check_size(facts, kernels.Variant())
    kernels.check_size(facts, kernels.Variant("row_block", 96))
    with pytest.raises(SystemExit):
        kernels.check_size(facts, kernels.Variant("rows", 3))
    assert "'rows' is none of depth_block, row_block" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "row_block", "row_block=", "row_block=0", "row_block=1,", "=3"])
def test_what_is_no_size_of_a_block_cannot_be_tried(text, capsys):
    with pytest.raises(SystemExit):
        kernels.parse_arguments(["--try", text])
    assert "--try" in capsys.readouterr().err
