"""Explanations agree with decisions, and `smppd explain` shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.cli.main import main
from smppd.message import Address, Refusal, Verdict
from smppd.policy.explain import explain, sentence
from smppd.policy.pipeline import Pipeline, Program, Standing
from tests.config.helpers import BASE, write
from tests.policy.helpers import frame, part, pipeline, policy, run, text

RULES: list[dict[str, Any]] = [
    {"when": {"sender": "ACME", "text": "hello"}, "unless": {"links": True}, "do": {"tag": "greeting"}},
    {"when": {"tag": "greeting"}, "do": {"drop_tlv": 0x1400}},
    {"when": {"tag": "other"}, "mode": "shadow"},
    {"when": {"country": "FR", "keywords": "bye"}},
    {"when": {"text": "evil"}, "do": {"refuse": {"status": 0x45, "reason": "no"}}},
    {"do": "pass"},
    {},
]


def why(sentence_: str) -> list[tuple[str, str]]:
    steps = explain(pipeline(*RULES), text(sentence_), 0.0).steps
    return [(step.standing.value, step.why) for step in steps]


def test_reasons() -> None:
    assert why("hello") == [
        ("matched", "sender, text"),
        ("matched", "tag"),
        ("not matched", "not tag"),
        ("not matched", "not country, not keywords"),
        ("not matched", "not text"),
        ("matched", "every message"),
        ("not reached", "ended before"),
    ]
    assert why("hello evil.com")[:2] == [("not matched", "unless links"), ("not matched", "not tag")]
    assert why("evil")[4:] == [("matched", "text"), ("not reached", "ended before"), ("not reached", "ended before")]


def test_parts() -> None:
    pipe = pipeline({"when": {"text": "verify now", "sender": "ACME"}}, {"when": {"keywords": "x", "sender": "Y"}})
    first = explain(pipe, part("please verify", 7, 3, 1), 0.0)
    assert [step.standing for step in first.steps] == [Standing.UNDECIDED, Standing.NOT_MATCHED]
    assert first.steps[1].why == "not sender, not keywords so far" and first.verdict is None
    second = explain(pipe, part(" now ok", 7, 3, 2), 0.0)
    assert second.steps[0].standing is Standing.MATCHED and second.verdict is not None
    third = explain(pipe, part("x", 7, 3, 3), 0.0)
    assert third.steps == [] and third.verdict is not None and third.verdict.refusal == second.verdict.refusal


def test_nothing_to_explain() -> None:
    assert explain(Pipeline(None), text("x"), 0.0) == ([], None)
    broken = explain(pipeline(*RULES), frame(b"x", tlvs=b"\1"), 0.0)
    assert broken.steps == [] and broken.verdict is not None and broken.verdict.refusal is not None
    large = pipeline({"when": {"text": "y"}})
    frames = [frame(bytes((5, 0, 3, 1, 20, seq)) + b"x" * 60_000, esm=0x40) for seq in range(1, 12)]
    last = [explain(large, sm, 0.0).verdict for sm in frames][-1]
    assert last is not None and last.refusal is not None


PROGRAM = Program([policy("a", RULES[:4]), policy("b", RULES[4:5], hold=True), policy("c", RULES[5:])])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["hello ", "evil", ".com ", "bye", "ev", "il"]), st.integers(1, 3), st.booleans()),
        max_size=6,
    )
)
def test_explanations_agree_with_decisions(messages: list[tuple[str, int, bool]]) -> None:
    deciding, explaining = Pipeline(PROGRAM), Pipeline(PROGRAM)
    for words, seq, whole in messages:
        sm = text(words) if whole else part(words, 7, 3, seq)
        explanation = explain(explaining, sm, 0.0)
        assert explanation.verdict == deciding.decide(sm, 0.0)
        if explanation.verdict is not None and explanation.verdict.hits:
            matched = [(s.policy, s.rule, s.shadow) for s in explanation.steps if s.standing is Standing.MATCHED]
            assert matched == list(explanation.verdict.hits)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (None, "passes unchanged; no rule matched"),
        (Verdict(), "passes unchanged"),
        (Verdict(expire_after=300.0), "passes expiring after 5m at the latest"),
        (Verdict(expire_after=90.0, on_unknown="hold"), "passes expiring after 90s at the latest, held if unanswered"),
        (Verdict(on_unknown="resend"), "passes sent again if unanswered"),
        (Verdict(message_class="one_time_code"), "passes as one time code"),
        (Verdict(hide=True), "passes unchanged, recorded without its text"),
        (
            Verdict(hold=True, hide=True),
            "held until the other parts of the message are there, recorded without its text",
        ),
        (
            Verdict(refusal=Refusal(0x45, "why", "p/r"), hide=True),
            "refused with ESME_RSUBMITFAIL by p/r: why, recorded without its text",
        ),
        (Verdict(hold=True), "held until the other parts of the message are there"),
        (Verdict(refusal=Refusal(0x45, "why", "p/r")), "refused with ESME_RSUBMITFAIL by p/r: why"),
        (
            Verdict(source=Address(5, 0, b"X"), drop_tlvs=frozenset({5120}), tags=frozenset("ba"), route="c"),
            "passes with sender X (TON 5, NPI 0), without TLV 0x1400, tagged a, b, to upstream c",
        ),
    ],
)
def test_sentences(verdict: Verdict | None, words: str) -> None:
    assert sentence(verdict) == words


# -- the command ---------------------------------------------------------------------------------------------------

POLICIES = """
policies:
  house:
    - {name: bait, when: {text: verify your account}, do: {refuse: {status: ESME_RX_R_APPN, reason: phishing}}}
    - {name: uk, when: {country: GB, sender_kind: alphanumeric}, do: {replace_sender: "+447700900001"}}
    - {name: vendor, when: {has_tlv: 0x1400}, do: {drop_tlv: 0x1400}}
    - {name: raw, mode: shadow, when: {binary: true}, do: refuse}
    - {name: by-hand, when: {sender: "12345"}, do: {route: carrier-a}}
    - {name: codes, when: {text: code}, do: {expire_after: 5m}}
    - {name: once, when: {text: code}, do: {on_unknown: hold}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path, BASE.replace("networks: any", "networks: any, policies: house") + POLICIES)


def explained(config: Path, *arguments: str) -> list[str]:
    base = ["explain", "--config", str(config), "--account", "acme"]
    return [*base, *("--from=ACME", "--to=+447700900123"), *arguments]


def as_json(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*explained(config, *arguments), "--json"]) == 0
    parts: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["parts"]
    return parts


def test_table(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(explained(config, "--text", "hello")) == 0
    out = capsys.readouterr().out
    assert "house/bait" in out and "not text" in out and "shadow" in out
    assert "Verdict: passes with sender 447700900001 (TON 1, NPI 1); by carrier-a." in " ".join(out.split())


def test_long_text(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(explained(config, "--text", "x" * 145 + " verify your account")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Part 1 of 2" in out and "undecided" in out and "needs the other parts" in out
    assert out.endswith("Verdict: refused with ESME_RX_R_APPN by house/bait: phishing.")


def test_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (whole,) = as_json(config, capsys, "--text", "verify your account")
    assert whole["verdict"] == "refused" and whole["upstreams"] == []
    assert whole["refusal"] == {"status": 0x66, "name": "ESME_RX_R_APPN", "reason": "phishing", "rule": "house/bait"}
    assert [rule["standing"] for rule in whole["rules"]] == ["matched"] + ["not reached"] * 6
    (whole,) = as_json(config, capsys, "--hex", "0102", "--data-coding", "4", "--tlv", "0x1400=31", "--from", "12345")
    assert whole["verdict"] == "passes" and whole["drop_tlvs"] == [0x1400] and whole["upstreams"] == ["carrier-a"]
    assert [rule["standing"] == "matched" for rule in whole["rules"]] == [False, False, True, True, True, False, False]
    (whole,) = as_json(config, capsys, "--hex", "0500030102017665726966", "--esm-class", "0x40")
    assert whole["rules"][0]["standing"] == "undecided" and whole["source"]["ton"] == 1
    (whole,) = as_json(config, capsys, "--text", "your code")
    assert [rule["action"] for rule in whole["rules"][-2:]] == ["expire after 5m", "on unknown hold"]
    assert (whole["expire_after"], whole["on_unknown"]) == (300.0, "hold")
    (whole,) = as_json(config, capsys, "--text", "x" * 300, "--data-coding", "1")
    assert whole["conclusion"].endswith("by carrier-a")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--text", "x", "--account", "acne"], 1, "no account 'acne'; did you mean acme?"),
        (["--hex", "zz"], 2, "not hexadecimal"),
        (["--text", "Привет", "--data-coding", "1"], 2, "cannot be sent so"),
        (["--text", "x", "--to", "1" * 30], 2, "would not be accepted: destination_addr"),
        (["--text", "x", "--to", ""], 2, "ESME_RINVDSTADR"),
        (["--text", "x", "--to", " "], 2, "ESME_RINVDSTADR"),
        (["--text", "x", "--from", "中"], 2, "`from` has characters"),
    ],
)
def test_mistakes(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    assert main(explained(config, *arguments)) == status
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--text", "x", "--tlv", "nonsense"], ["--text", "x", "--data-coding", "256"], []]
)
def test_wrong_calls(config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(explained(config, *arguments))
    assert caught.value.code == 2 and capsys.readouterr().err


def test_a_policy_that_does_not_compile(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("{text: verify your account}", "{keywords: ['$$$']}"))
    assert main(explained(config, "--text", "x")) == 1
    assert "policies.house[0].when.keywords[0]: has no letters" in capsys.readouterr().err


def test_helpers_agree() -> None:
    assert run(pipeline(*RULES), text("hello")) == ["r0,r1,r5"]


def test_a_registry_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "registry.csv").write_text(
        "kind,id,entity,header,class,text\nentity,1101,,,,\nheader,,1101,ACMEBK,,\n"
        "template,2001,1101,,service,Code {#numeric#}\n"
    )
    text_ = BASE.replace("networks: any", "networks: any, policies: p, dlt: {registry: r, entity: 1101, set: true}")
    text_ += "dlt: {registries: {r: {file: registry.csv}}}\n"
    text_ += "policies: {p: [{name: scrub, when: {country: IN}, unless: {dlt: ok}, do: refuse}]}\n"
    # No Indian number begins with 0 behind the country code; the country is then unknown.
    text_ = text_.replace("country: IN", "destination: 91")
    call = ["explain", "--config", str(write(tmp_path, text_)), "--account", "acme", "--to", "+910000000123", "--json"]
    assert main([*call, "--from", "ACMEBK", "--text", "Code 1"]) == 0
    (part_,) = json.loads(capsys.readouterr().out)["parts"]
    assert part_["set_tlvs"] == {"0x1400": b"1101".hex(), "0x1401": b"2001".hex()}
    assert part_["rules"][0]["because"] == "unless dlt: ok" and "as service" in part_["conclusion"]
    assert main([*call, "--from", "ACMEBK", "--text", "Code x"]) == 0
    (part_,) = json.loads(capsys.readouterr().out)["parts"]
    assert part_["verdict"] == "refused" and part_["rules"][0]["because"] == "destination, dlt: no_template"
