"""The collapse guard by hand: both ends, its patience, its start, its advice."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from scripts.engines.guards import CollapseError, CollapseGuard


def watch(guard: CollapseGuard, shares: list[float | None]) -> int:
    """Iterations of an engine whose output has these lesion shares, until the guard stops it or they end."""
    engine = Engine(lambda _, share: [{"loss": 0.0} if share < 0 else {"lesion_share": torch.tensor(share)}])
    guard.attach(engine)
    engine.run([-1.0 if share is None else share for share in shares])
    return engine.state.iteration


def make_guard(**changes: float | None) -> CollapseGuard:
    return CollapseGuard(**({"prior": 0.1, "patience": 3, "lowest": 0.02, "highest": 3.0, "start": 0} | changes))


def test_too_little_for_too_long() -> None:
    # 0.02 * 0.1 = 0.002 is the least that is accepted
    assert watch(make_guard(), [0.002] * 10) == 10
    assert watch(make_guard(), [0.001] * 2) == 2
    with pytest.raises(CollapseError, match=r"almost no lesion .* for 3 iterations \(share 0.0010, labelled prior 0.1"):
        watch(make_guard(), [0.1, 0.001, 0.001, 0.001])


def test_too_much_for_too_long() -> None:
    # 3 * 0.1 = 0.3 is the most
    assert watch(make_guard(), [0.2999] * 10) == 10
    with pytest.raises(CollapseError, match="far too much lesion.*accepted 0.0020 to 0.3000"):
        watch(make_guard(), [0.31] * 3)


def test_all_lesion_counts_even_for_a_large_prior() -> None:
    with pytest.raises(CollapseError, match="far too much"):  # 3 * 0.5 would be more than everything
        watch(make_guard(prior=0.5), [1.0] * 3)


def test_masks_that_do_not_run_away_have_no_bounds() -> None:
    assert watch(make_guard(lowest=0.0, highest=None), [0.0, 1.0] * 5) == 10


def test_one_good_iteration_starts_the_count_again() -> None:
    assert watch(make_guard(), [0.0, 0.0, 0.1, 0.9, 0.9, 0.1, 0.0, 0.0]) == 8


def test_both_ends_count_together() -> None:
    with pytest.raises(CollapseError):
        watch(make_guard(), [0.0, 0.9, 0.0])


def test_not_before_its_start() -> None:
    assert watch(make_guard(start=5), [0.0] * 7) == 7  # counts iterations 6 and 7
    with pytest.raises(CollapseError):
        watch(make_guard(start=5), [0.0] * 8)


def test_silent_without_a_share_or_a_prior() -> None:
    assert watch(make_guard(), [None] * 9) == 9  # supervised training, or before the objective starts
    assert watch(make_guard(prior=0.0), [0.0] * 9) == 9


def test_the_message_names_the_options() -> None:
    with pytest.raises(CollapseError) as caught:
        watch(make_guard(), [0.0] * 3)
    for option in ("--unsupervised_start", "--unsupervised_weight", "--objective supervised", "--collapse_lowest"):
        assert option in str(caught.value)
