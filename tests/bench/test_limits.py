"""The campaign of limits: a small structure all the way, the table on its page, and what fails."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from bench import limits, limits_report
from bench.limits import Result, measure
from bench.limits_stand import Stand, configuration
from bench.structures import PLAIN, QUEUE_ACTS, STRUCTURES, Structure, fill_accounts, fill_queue


def test_a_small_structure_is_filled_and_every_operation_done(tmp_path: Path) -> None:
    small = Structure("small", "12,000 messages", partial(fill_queue, number=20_000), QUEUE_ACTS, sections=PLAIN)
    result = measure(small, tmp_path)
    assert [name for name, _ in result.turns] == [*QUEUE_ACTS, *limits.TICKS]
    assert all(spent > 0 for _, spent in result.turns)
    assert result.things == 20_000 and result.counted > 20_000 * 1100


def test_accounts_are_filled_each(tmp_path: Path) -> None:
    stand = Stand(configuration(tmp_path, 3))
    fill_accounts(stand)
    assert [account.queued for account in stand.relay.context.accounts.values()] == [100] * 3
    assert stand.longest > 0 and stand.turns > 3
    stand.reset()
    assert stand.longest == 0 and stand.turns == 0
    stand.close()


def test_structures_have_names_of_their_own_and_valid_configurations(tmp_path: Path) -> None:
    names = [one.name for one in STRUCTURES]
    assert len(set(names)) == len(names)
    for one in STRUCTURES:
        assert len(one.settings(tmp_path).accounts) == one.accounts
        assert set(one.once) <= set(one.acts)


RESULT = Result("queue", "many", 3.0, 2_000_000, 1_900_000, 5, [("submit_sm", 0.5), ("sweep", 30.0)], True)


def test_what_is_too_long_is_said() -> None:
    first, second, third = limits_report.lines(asdict(RESULT), 20.0)
    assert "2.0 MB measured, 1.9 MB counted for 5 things" in first
    assert second.endswith("ok") and third.endswith("TOO LONG")


def test_the_table_takes_its_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "limits.md"
    page.write_text(f"before\n\n{limits_report.BEGIN}\nold\n{limits_report.END}\n\nbehind\n")
    limits_report.write(page, [asdict(RESULT), asdict(replace(RESULT, name="rows", compiled=False))], 20.0)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("behind\n") and "old" not in text
    assert "| queue | many | 2.0 MB | 1.9 MB | submit_sm | 0.50 | yes |" in text
    assert "|  |  |  |  | sweep | 30.00 | **no** |" in text and "interpreted" in text
    page.write_text("no place")
    with pytest.raises(RuntimeError, match="no place"):
        limits_report.write(page, [asdict(RESULT)], 20.0)


def test_one_that_fails_keeps_no_other_from_running_and_fails_the_campaign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def child(name: str) -> Result:
        if name == "queue":
            raise RuntimeError("queue: did not fill")
        return replace(RESULT, name=name, turns=[("submit_sm", 0.5)])

    monkeypatch.setattr(limits, "child", child)
    assert limits.main(["queue", "rows"]) == 2
    said = capsys.readouterr()
    assert "rows: many" in said.out and "did not fill" in said.err
    assert limits.main(["rows"]) == 0
    monkeypatch.setattr(limits, "child", lambda name: RESULT)
    assert limits.main(["rows"]) == 1
    with pytest.raises(SystemExit):
        limits.main(["nothing"])
