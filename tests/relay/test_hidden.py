"""What a rule with `content: hide` leaves in the record: nothing of the text, whatever the account says."""

from __future__ import annotations

import pytest

from smppd.vault.seal import Content, OpenRecord, iter_records, open_record
from tests.relay.accept.test_desk import part
from tests.relay.fakes import World
from tests.relay.test_operations import replace
from tests.relay.test_rules import ruled

HIDE = {"content": "hide"}


def records(world: World) -> list[OpenRecord]:
    """Those of the batch that is not committed yet, opened."""
    batch = world.store.batch
    packed = list(iter_records(b"".join(batch.records)))
    return [open_record(one, world.ring, secrets) for one, secrets in zip(packed, batch.secrets, strict=True)]


def contents(world: World) -> list[Content]:
    return [one.header.content for one in records(world)]


@pytest.mark.parametrize("content", ["encrypt", "hash", "hide"])
def test_a_code_leaves_no_text_and_goes_out_whole(content: str) -> None:
    world = ruled(HIDE, acme={"content": content})
    acme, a = world.customer(), world.carrier()
    acme.submits(b"news", b"code 4711")
    news, code = records(world)
    assert news.header.content is Content[content.upper()]
    assert code.header.content is Content.HIDE and code.header.body_period is None
    assert code.body is None and code.content_hash is None and code.numbers is not None
    world.commits()
    assert a.texts() == [b"news", b"code 4711"]
    world.check()


def test_a_rule_in_shadow_hides_nothing_and_is_counted() -> None:
    world = ruled(HIDE, shadow=True)
    world.customer().submits(b"code 4711")
    assert contents(world) == [Content.ENCRYPT]
    assert world.total("rule_hits", policy="p", rule="r0", mode="shadow") == 1


def test_what_is_refused_behind_it_leaves_no_text_either() -> None:
    world = ruled(HIDE, "refuse")  # type: ignore[arg-type]
    world.customer().submits(b"code 4711")
    assert contents(world) == [Content.HIDE]


def test_parts_that_were_recorded_before_stay_as_they_are() -> None:
    world = ruled(HIDE)
    acme = world.customer()
    acme.sends(part(b"your co", 1, 3), part(b"de is 47", 2, 3), part(b"11", 3, 3))
    assert contents(world) == [Content.ENCRYPT, Content.HIDE, Content.HIDE]


def test_held_parts_are_hidden_while_the_rule_may_still_say_so() -> None:
    world = ruled(HIDE, hold=True)
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"your co", 1, 2), part(b"de 4711", 2, 2), part(b"good ", 1, 2, 9), part(b"news", 2, 2, 9))
    assert contents(world) == [Content.HIDE, Content.HIDE, Content.HIDE, Content.ENCRYPT]
    world.commits()
    assert [sm.short_message[6:] for sm in a.waiting] == [b"your co", b"de 4711", b"good ", b"news"]
    world.check()


def test_parts_of_a_refused_message_leave_no_text() -> None:
    world = ruled(HIDE, "refuse")  # type: ignore[arg-type]
    acme = world.customer()
    acme.sends(part(b"code ", 1, 3), part(b"4711", 2, 3))
    assert contents(world) == [Content.HIDE, Content.HIDE]


def test_a_text_that_replaces_another_is_looked_at_too() -> None:
    world = ruled(HIDE)
    acme = world.customer()
    acme.submits(b"news")
    world.commits()
    (name,) = acme.ids()
    acme.sends(replace(name, b"code 4711"))
    assert contents(world) == [Content.HIDE]
    world.commits()
    assert [status for _, status, _ in acme.answered()] == [0]


def test_what_is_set_aside_lives_as_short_as_where_texts_are_hidden() -> None:
    founded = {"basis": "contract", "retain": "400d"}
    world = ruled(HIDE, acme=founded)
    assert world.relay.context.guard.lifetime("acme") == 72 * 3600
    assert ruled(HIDE, shadow=True, acme=founded).relay.context.guard.lifetime("acme") == 30 * 86400
