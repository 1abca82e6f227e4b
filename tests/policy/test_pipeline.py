"""Rules in order: what they do, what ends what, what shadow rules leave alone, and how policies are compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import ReplaceSender, Rule, Settings
from smppd.message import Address, Hit, Refusal, Verdict
from smppd.policy import pipeline as pipelines
from smppd.policy.content import part_of, whole_text
from smppd.policy.pipeline import (
    CompiledPolicy,
    Pipeline,
    PolicyError,
    Program,
    compile_policies,
    pipeline_for,
    replacement,
)
from smppd.protocol import wire
from smppd.protocol.text import Alphabet
from smppd.protocol.wire import BodyError, Sm
from tests.config.helpers import BASE, loaded
from tests.policy.helpers import frame, pipeline, policy, run, text

HELLO = text("hello")
ALWAYS: dict[str, Any] = {}


def test_no_policy_passes_everything() -> None:
    assert Pipeline(None).decide(HELLO, 0.0) is None
    assert Pipeline(Program([])).decide(HELLO, 0.0) is None
    assert Pipeline(Program([policy("empty", [])])).decide(HELLO, 0.0) is None


ORDER: list[tuple[str, list[dict[str, Any]], str]] = [
    ("the first refusal ends it", [{"when": {"text": "x"}}, {"when": {"text": "ell"}}, ALWAYS], "refused r1"),
    ("pass ends the policy", [{"when": {"text": "ell"}, "do": "pass"}, ALWAYS], "r0"),
    ("an unmatched pass ends nothing", [{"when": {"text": "x"}, "do": "pass"}, ALWAYS], "refused r1"),
    ("shadow pass ends nothing", [{"mode": "shadow", "do": "pass"}, ALWAYS], "refused r1"),
    ("shadow refuse is counted", [{"mode": "shadow"}, {"when": {"text": "x"}}], "r0*"),
    ("others go on", [{"do": {"tag": "a"}}, {"do": {"drop_tlv": 1}}, {"do": "pass"}, ALWAYS], "r0,r1,r2"),
    ("unless", [{"when": {"text": "hello"}, "unless": {"sender": "ACME"}}], "-"),
    ("unless of another", [{"when": {"text": "hello"}, "unless": {"sender": "OTHER"}}], "refused r0"),
    ("head before text", [{"when": {"sender": "ACME"}}, {"when": {"text": "hello"}}], "refused r0"),
    ("text before head", [{"when": {"text": "hello"}}, {"when": {"sender": "ACME"}}], "refused r0"),
    ("tags pass on", [{"do": {"tag": "a"}}, {"when": {"tag": ["b", "a"]}}], "refused r1"),
    ("tags come in order", [{"when": {"tag": "a"}}, {"do": {"tag": "a"}}], "r1"),
    ("tag and more", [{"do": {"tag": "a"}}, {"when": {"tag": "a", "sender": "OTHER"}}], "r0"),
    ("unless tag", [{"do": {"tag": "a"}}, {"unless": {"tag": "a"}}, {"unless": {"tag": "b"}}], "refused r2"),
    ("unless tag and more", [{"do": {"tag": "a"}}, {"unless": {"tag": "a", "sender": "OTHER"}}], "refused r1"),
    ("shadow tags nothing", [{"mode": "shadow", "do": {"tag": "a"}}, {"when": {"tag": "a"}}], "r0*"),
    ("tag by text", [{"when": {"text": "ell"}, "do": {"tag": "a"}}, {"when": {"tag": "a"}}], "refused r1"),
]


@pytest.mark.parametrize(("rules", "expected"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_order(rules: list[dict[str, Any]], expected: str) -> None:
    pipe = pipeline(*rules)
    assert run(pipe, HELLO, HELLO) == [expected] * 2


def test_pass_ends_its_own_policy_only() -> None:
    first = policy("first", [{"do": "pass"}, {}])
    second = policy("second", [{"when": {"text": "hello"}, "do": {"refuse": {"status": 10, "reason": "no"}}}])
    verdict = Pipeline(Program([first, second])).decide(HELLO, 0.0)
    assert verdict == Verdict(
        refusal=Refusal(10, "no", "second/r0"), hits=(Hit("first", "r0", False), Hit("second", "r0", False))
    )


def test_actions_add_up_and_the_later_wins() -> None:
    pipe = pipeline(
        {"do": {"tag": "a"}},
        {"do": {"tag": "b"}},
        {"do": {"drop_tlv": [1, 2]}},
        {"do": {"drop_tlv": 3}},
        {"do": {"route": "first"}},
        {"do": {"route": "second"}},
        {"do": {"replace_sender": "ONE"}},
        {"do": {"replace_sender": "+447700900001"}},
        {"do": {"replace_sender": "SHADOW"}, "mode": "shadow"},
    )
    verdict = pipe.decide(HELLO, 0.0)
    assert verdict is not None
    assert verdict.refusal is None and not verdict.hold
    assert verdict.tags == {"a", "b"} and verdict.drop_tlvs == {1, 2, 3} and verdict.route == "second"
    assert verdict.source == Address(1, 1, b"447700900001")
    assert [hit.shadow for hit in verdict.hits] == [False] * 8 + [True]


def test_of_times_the_shortest_and_of_words_on_unknown_the_first() -> None:
    rules: list[dict[str, Any]] = [
        {"do": {"expire_after": "1m"}, "mode": "shadow"},
        {"do": {"on_unknown": "resend"}, "mode": "shadow"},
        {"do": {"expire_after": "1h"}},
        {"do": {"expire_after": "5m"}},
        {"do": {"on_unknown": "hold"}},
        {"do": {"expire_after": "1d"}},
        {"do": {"on_unknown": "resend"}},
    ]
    verdict = pipeline(*rules).decide(HELLO, 0.0)
    assert verdict is not None and (verdict.expire_after, verdict.on_unknown) == (300.0, "hold")
    verdict = pipeline(*rules[:2]).decide(HELLO, 0.0)
    assert verdict is not None and (verdict.expire_after, verdict.on_unknown) == (None, None)


def test_conditions_see_the_message_as_it_came() -> None:
    pipe = pipeline({"do": {"replace_sender": "OTHER"}}, {"when": {"sender": "OTHER"}}, {"when": {"sender": "ACME"}})
    assert run(pipe, HELLO) == ["refused r2"]


@pytest.mark.parametrize(
    ("sender", "address"),
    [
        ("ACME", Address(5, 0, b"ACME")),
        ("12345", Address(3, 0, b"12345")),
        ("+447700900001", Address(1, 1, b"447700900001")),
        ("447700900001", Address(1, 1, b"447700900001")),
        ("+1 212 555 0100", Address(1, 1, b"12125550100")),
        ({"address": "+1 212 555 0100", "ton": 1, "npi": 1}, Address(1, 1, b"12125550100")),
        ({"address": "12345", "ton": 5}, Address(5, 0, b"12345")),
        ({"address": "0770", "ton": 2}, Address(2, 1, b"0770")),
        ({"address": "447700900001", "npi": 9}, Address(1, 9, b"447700900001")),
        ({"address": "ACME", "ton": 0, "npi": 0}, Address(0, 0, b"ACME")),
    ],
)
def test_replacement(sender: Any, address: Address) -> None:
    assert replacement(ReplaceSender.model_validate(sender)) == address


def test_the_text_is_not_read_where_the_head_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr(pipelines, "whole_text", never)
    monkeypatch.setattr(pipelines, "read", never)
    pipe = pipeline({"when": {"sender": "ACME"}}, {"when": {"text": "hello"}})
    assert run(pipe, HELLO) == ["refused r0"]
    pipe = pipeline({"when": {"country": "FR", "text": "hello"}}, {"when": {"sender": "X"}})
    assert run(pipe, HELLO) == ["-"]
    passed = pipeline({"when": {"sender": "ACME"}, "do": "pass"}, {"when": {"text": "hello"}})
    assert run(passed, HELLO) == ["r0"]


@pytest.mark.interpreted("replaces a function that the compiler calls directly")
def test_the_text_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Sm] = []

    def counted(sm: Sm, default: Alphabet) -> str | None:
        calls.append(sm)
        return whole_text(sm, default)

    monkeypatch.setattr(pipelines, "whole_text", counted)
    run(pipeline(*({"when": {"text": f"x{i}"}} for i in range(10)), {"when": {"keywords": "x"}}), HELLO)
    assert len(calls) == 1


def test_broken_tlvs_are_refused_with_their_status() -> None:
    pipe = pipeline({"when": {"text": "x"}})
    verdict = pipe.decide(frame(b"hello", tlvs=b"\x14\x00\x00\x05ab"), 0.0)
    assert verdict is not None and verdict.refusal is not None
    assert verdict.refusal.status == wire.Status.RINVPARLEN and verdict.refusal.rule == "tlv"


@pytest.mark.interpreted("changes a constant that the compiler wrote into the code")
def test_memories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.policy.program.VERDICTS", 4)
    monkeypatch.setattr("smppd.policy.conditions.REMEMBERED", 4)
    rules = [{"when": {"text": f"\\b{i}\\b", "sender": "S*"}, "mode": "shadow"} for i in range(8)]
    pipe = pipeline(*rules, {"when": {"destination": "44"}, "mode": "shadow"})
    for i in range(64):
        words = " ".join(str(bit) for bit in range(8) if i >> bit & 1)
        message = text(words, sender=b"S%d" % i, to=b"%d7700900123" % i)
        wanted = ",".join(f"r{bit}*" for bit in range(8) if i >> bit & 1)
        assert run(pipe, message) == [",".join(filter(None, [wanted, "r8*" * (i == 44)])) or "-"]
    program = pipe.program
    assert program is not None and len(program._late) <= 4 and len(program._early) <= 4
    assert len(program.conditions._senders_seen or ()) <= 4 and len(program.conditions._destinations or ()) <= 4


def test_reprs_hold_no_text() -> None:
    pipe = pipeline({"when": {"text": "x"}})
    content = pipe.read(text("secret words"), 0.0)
    assert "secret" not in repr(content)


# -- compiling -----------------------------------------------------------------------------------------------------

POLICIES = """
policies:
  house:
    - {name: shadowed, mode: shadow, when: {keywords: {file: words.txt}}, do: refuse}
    - {name: long, when: {longer_than: 300}, do: {refuse: {status: ESME_RINVMSGLEN, reason: too long}}}
  other: {hold_parts: true, rules: [{name: one, when: {text: hello}, do: refuse}]}
"""


def settings_of(directory: Path, extra: str = POLICIES, policies: str = "house, other") -> Settings:
    (directory / "words.txt").write_text("# bait\nfree prize\n")
    return loaded(directory, BASE.replace("networks: any", f"networks: any, policies: [{policies}]") + extra)


def test_from_configuration(tmp_path: Path) -> None:
    configured = settings_of(tmp_path)
    compiled = compile_policies(configured)
    assert list(compiled) == ["house", "other"] and compiled["other"].hold_parts
    pipe = pipeline_for(configured, configured.accounts[0], compiled)
    assert run(pipe, text("a free prize"), text("hello"), text("nothing")) == ["shadowed*", "refused other/one", "-"]
    again = pipeline_for(configured, "acme", compiled)
    assert again is not pipe and again.program is pipe.program
    assert pipeline_for(configured, "acme", dict(compiled)).program is not pipe.program
    with pytest.raises(KeyError):
        pipeline_for(configured, "nobody", compiled)


def test_an_account_without_policies(tmp_path: Path) -> None:
    configured = settings_of(tmp_path, policies="")
    pipe = pipeline_for(configured, "acme", compile_policies(configured))
    assert pipe.program is None and pipe.decide(HELLO, 0.0) is None


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("when: {keywords: [fine, '$$$']}, do: refuse", "policies.p[1].when.keywords[1]"),
        ("unless: {keywords: ['$$$']}, do: refuse", "policies.p[1].unless.keywords[0]"),
        ("do: {replace_sender: TWELVELETTER}", "policies.p[1].do.replace_sender.address"),
        ("do: {replace_sender: Crédit}", "policies.p[1].do.replace_sender.address"),
    ],
)
def test_faults(tmp_path: Path, rule: str, path: str) -> None:
    extra = f"policies: {{p: [{{name: ok, when: {{text: x}}, do: refuse}}, {{name: bad, {rule}}}]}}"
    with pytest.raises(PolicyError) as caught:
        compile_policies(settings_of(tmp_path, extra, policies="p"))
    assert caught.value.path == path and caught.value.message and path in str(caught.value)
    held = extra.replace("{p: [", "{p: {hold_parts: true, rules: [").removesuffix("]}") + "]}}"
    with pytest.raises(PolicyError) as caught:
        compile_policies(settings_of(tmp_path, held, policies="p"))
    assert caught.value.path == path.replace("p[", "p.rules[")


# -- anything ------------------------------------------------------------------------------------------------------

EVERYTHING = Program(
    [
        policy(
            "head",
            [
                {"when": {"sender": ["A*", "12"]}, "mode": "shadow"},
                {"when": {"sender_kind": "short", "sender_pattern": "1"}, "do": {"tag": "short"}},
                {"when": {"destination": "44", "country": "GB"}, "do": {"route": "a"}},
                {"when": {"has_tlv": 0x1400, "size_over": "3B"}, "do": {"drop_tlv": 0x1400}},
                {"when": {"tag": "short"}, "unless": {"text": "x"}},
            ],
        ),
        policy(
            "text",
            [
                {"when": {"links": False, "text": r"\pL\d"}, "mode": "shadow"},
                {"when": {"domains": ["evil.com"]}, "unless": {"keywords": ["fine"]}},
                {"when": {"keywords": ["中", "free prize"], "longer_than": 2}},
                {"when": {"links": True}, "unless": {"domains": ["good.org"]}, "do": "pass"},
                {"when": {"binary": True, "data_coding": [4, 0xF5]}},
            ],
            hold=True,
        ),
    ]
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.builds(
            lambda sender, to, body, coding, esm, tlvs, command: wire.pdu(
                command,
                0,
                1,
                b"\0\0\0"
                + sender
                + b"\0\1\1"
                + to
                + b"\0"
                + bytes((esm, 0))
                + (bytes((coding,)) if command == 0x103 else bytes((0, 0, 0, 1, 0, coding, 0, len(body))) + body)
                + tlvs,
            ),
            st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"1")),
            st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"1")) | st.just(b"447700900123"),
            st.binary(max_size=40)
            | st.builds(
                lambda t, s, b: bytes((5, 0, 3, 9, t, s)) + b,
                st.integers(0, 4),
                st.integers(0, 4),
                st.binary(max_size=9),
            ),
            st.sampled_from([0, 3, 4, 5, 8, 0x0A, 0xF5]) | st.integers(0, 255),
            st.sampled_from([0, 0x40]) | st.integers(0, 255),
            st.binary(max_size=12)
            | st.builds(lambda b: wire.tlv(0x0424, b), st.binary(max_size=20))
            | st.builds(
                lambda r, t, s: wire.tlv(0x20C, r) + wire.tlv(0x20E, t) + wire.tlv(0x20F, s),
                st.binary(max_size=3),
                st.binary(max_size=1),
                st.binary(max_size=1),
            ),
            st.sampled_from([4, 5, 0x103]),
        ),
        max_size=6,
    )
)
def test_decide_never_raises(frames: list[bytes]) -> None:
    pipe = Pipeline(EVERYTHING)
    for now, raw in enumerate(frames):
        try:
            sm = Sm(raw)
        except BodyError:
            continue
        verdict = pipe.decide(sm, float(now))
        assert verdict is None or isinstance(verdict, Verdict)
        part_of(sm)


def test_a_policy_by_hand() -> None:
    rule = Rule.model_validate({"name": "x", "do": "refuse"})
    assert run(Pipeline(Program([CompiledPolicy("p", False, (rule,))])), HELLO) == ["refused x"]
