"""Routes: the first match and what it falls through to, prefixes, senders, accounts, tags, weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from smppd.config import Settings
from smppd.relay.accept.routing import Router

HASH = "$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"
UK, US = b"447700900123", b"12125550100"


def router(*routes: dict[str, Any], disabled: tuple[str, ...] = ()) -> Router:
    names = ("a", "b", "c", "d")
    return Router(
        Settings.model_validate(
            {
                "listeners": [{"address": "127.0.0.1:0"}],
                "accounts": [
                    {"system_id": name, "password_hash": HASH, "networks": "any"} for name in ("acme", "other")
                ],
                "upstreams": [
                    {
                        "name": name,
                        "address": "127.0.0.1:2776",
                        "system_id": "gw",
                        "password": {"env": "PW"},
                        "enabled": name not in disabled,
                    }
                    for name in names
                ],
                "routes": list(routes),
                "store": {"path": "var"},
                "keys": {"file": "kek"},
            }
        )
    )


def candidates(
    routes: Router, account: str, source: bytes, destination: bytes, tags: frozenset[str] = frozenset()
) -> list[str]:
    """The route as a list of upstreams."""
    joined = routes.route(account, source, destination, tags)
    return joined.split(",") if joined else []


def test_the_first_match_stands_in_front_and_the_rest_follow() -> None:
    routes = router(
        {"destination": ["+44"], "upstreams": ["a", "b"]},
        {"destination": ["+1"], "upstreams": ["d"]},
        {"upstreams": ["c", "a"]},
    )
    assert candidates(routes, "acme", b"EXAMPLE", UK) == ["a", "b", "c"]
    assert routes.route("acme", b"EXAMPLE", US) == "d,c,a"
    assert routes.route("acme", b"EXAMPLE", b"33") == "c,a"


@pytest.mark.parametrize("destination", [UK, b"+" + UK])
def test_a_plus_changes_nothing(destination: bytes) -> None:
    routes = router({"destination": ["+447700"], "upstreams": ["a"]}, {"destination": ["4"], "upstreams": ["b"]})
    assert routes.route("acme", b"", destination) == "a,b"


def test_no_route_is_an_empty_answer() -> None:
    routes = router({"destination": ["+44"], "upstreams": ["a"]})
    assert (routes.route("acme", b"", US), candidates(routes, "acme", b"", US)) == ("", [])
    assert routes.route("nobody", b"", UK) == ""
    assert routes.route("acme", b"", b"") == ""


def test_one_list_for_everything_is_always_the_same_text() -> None:
    routes = router({"upstreams": ["b", "a"]})
    assert routes.route("acme", b"", UK) is routes.route("acme", b"x", US)
    assert routes.route("acme", b"", UK) == "b,a"


def test_senders_exact_and_by_prefix_in_any_case() -> None:
    routes = router(
        {"sender": ["Example", "+44770*"], "upstreams": ["a"]},
        {"sender": ["exam*"], "upstreams": ["b"]},
        {"upstreams": ["c"]},
    )
    assert routes.route("acme", b"EXAMPLE", UK) == "a,b,c"
    assert routes.route("acme", b"examples", UK) == "b,c"
    assert routes.route("acme", b"+447700900123", UK) == routes.route("acme", b"447700900123", UK) == "a,c"
    assert routes.route("acme", b"", UK) == "c"


def test_accounts_have_their_own_routes() -> None:
    routes = router({"accounts": ["other"], "upstreams": ["a"]}, {"upstreams": ["b"]})
    assert (routes.route("acme", b"", UK), routes.route("other", b"", UK)) == ("b", "a,b")
    alone = router({"accounts": ["other"], "upstreams": ["a"]})
    assert alone.route("acme", b"", UK) == ""


def test_tags_that_policy_gave() -> None:
    routes = router({"tags": ["marketing", "bulk"], "upstreams": ["a"]}, {"upstreams": ["b"]})
    assert routes.route("acme", b"", UK) == "b"
    assert routes.route("acme", b"", UK, frozenset({"bulk", "other"})) == "a,b"
    assert routes.route("acme", b"", UK, frozenset({"other"})) == "b"


def test_disabled_upstreams_are_not_named() -> None:
    routes = router(
        {"destination": ["+44"], "upstreams": ["a"]},
        {"destination": ["+1"], "upstreams": ["a"]},
        {"destination": ["+4"], "upstreams": ["b"]},
        disabled=("a",),
    )
    assert (routes.route("acme", b"", UK), routes.route("acme", b"", US)) == ("b", "")


def weighted(**weights: int) -> dict[str, Any]:
    return {"upstreams": [{"name": name, "weight": weight} for name, weight in weights.items()]}


def test_weights_divide_destinations_and_a_destination_keeps_its_way() -> None:
    routes = router(weighted(a=6, b=3, c=1), {"upstreams": ["d"]})
    first: Counter[str] = Counter()
    for n in range(5000):
        number = b"4477009%05d" % n
        names = candidates(routes, "acme", b"", number)
        assert names == candidates(routes, "acme", b"other", b"+" + number)
        assert sorted(names[:3]) == ["a", "b", "c"] and names[3] == "d"
        first[names[0]] += 1
    assert 2800 < first["a"] < 3200 and 1350 < first["b"] < 1650 and 400 < first["c"] < 600
    again = router(weighted(a=6, b=3, c=1), {"upstreams": ["d"]})
    assert again.route("acme", b"", UK) == routes.route("acme", b"", UK)


def test_without_weights_the_order_written_counts() -> None:
    routes = router({"destination": ["4"], "upstreams": ["c", "a", "b"]})
    assert {routes.route("acme", b"", b"44770090%04d" % n) for n in range(200)} == {"c,a,b"}


def test_the_share_of_a_disabled_upstream_is_divided_by_the_weights_of_the_others() -> None:
    routes = router(weighted(a=50, b=30, c=20), disabled=("a",))
    first = Counter(candidates(routes, "acme", b"", b"4477009%05d" % n)[0] for n in range(5000))
    assert set(first) == {"b", "c"} and 2800 < first["b"] < 3200
    everybody = router(weighted(a=50, b=30, c=20))
    for n in range(500):
        before = candidates(everybody, "acme", b"", b"4477009%05d" % n)[0]
        assert before in ("a", candidates(routes, "acme", b"", b"4477009%05d" % n)[0])
    assert router(weighted(a=1, b=1), disabled=("a", "b")).route("acme", b"", UK) == ""
