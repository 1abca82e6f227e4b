"""The figures in the documentation are those of the texts and words as they are."""

from __future__ import annotations

from tests.policy.families import corpus
from tests.policy.families.figures import PAGE, figures, written


def test_the_page_has_the_figures() -> None:
    assert written(PAGE.read_text(encoding="utf-8")) == figures(), "python -m tests.policy.families.figures"


def test_the_unseen_texts_are_many_and_none_was_tuned_for() -> None:
    honest, hostile = corpus.benign("unseen/benign", 1), corpus.hostile("unseen/hostile")
    assert len(honest) >= 140 and len(hostile) >= 70
    tuned = {case.text for case in corpus.benign() + corpus.hostile()}
    assert not tuned & {case.text for case in honest + hostile}
