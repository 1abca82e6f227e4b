"""All that policy can do, for one case: 200 rules with 2,000 patterns and keywords, every family, three lists of a million and
a bigger one of numbers, senders, opt-outs, consents, hours and traffic. No message of the bench is refused or held by any of
it, so that each is put to all.

What takes long, the lists compiled and the registers filled, is made once for each size of the big list and kept in
`var/bench/policies-N`, with the keys it is compiled under; each run gets a copy of its own (the lists: the same file).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench import lists

MILLION: Final = 1_000_000
PATTERNS: Final = 2000  # and keywords, of all rules together
FAMILIES: Final = ("phishing_link", "credential_lure", "callback", "marketing", "card_number", "one_time_code")
OPTED_OUT: Final = 100_000
_REFUSE: Final = {"refuse": {"status": "ESME_RSUBMITFAIL"}}
_BIG: Final = "everybody"
# Numbers of the messages, bench/texts.h.
_DESTINATIONS: Final = [f"447700900{at:03d}" for at in range(1000)]
_SENDERS: Final = [f"121255501{at:02d}" for at in range(100)]


def rules(ordinary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many rules as those given, where the last ones ask families, lists and senders, and those that look at the text have
    2,000 patterns and keywords between them; none holds for a message of the bench."""
    special: list[dict[str, Any]] = [{"family": [name]} for name in FAMILIES]
    special += [
        {"destination_in": [_BIG]},
        {"destination_in": ["numbers"]},
        {"sender_in": ["senders"]},
        {"domain_in": ["domains"]},
        {"sender_is": ["protected", "lookalike"]},
        {"tlv": {0x1403: ["PROMO", {"matches": "^P[0-9]+$"}]}},
    ]
    made = ordinary[: -len(special)] + [
        {"name": f"special-{n}", "when": when, "do": _REFUSE} for n, when in enumerate(special)
    ]
    texts = [rule["when"] for rule in made if "text" in rule["when"]]
    words = [rule["when"] for rule in made if "keywords" in rule["when"]]
    for n in range(PATTERNS - sum(len(when[key]) for of, key in ((texts, "text"), (words, "keywords")) for when in of)):
        if n % 2:
            own = rf"\bwin-?{n:04d}\s+(?:now|today)\b"
            texts[n // 2 % len(texts)]["text"] = [*texts[n // 2 % len(texts)]["text"], own]
        else:
            words[n // 2 % len(words)]["keywords"] = [
                *words[n // 2 % len(words)]["keywords"],
                f"prize {n:04d} of yours",
            ]
    return made


def kept_in(root: Path, entries: int) -> Path:
    """Where what was made for a list of that size is kept."""
    return root / "var" / "bench" / f"policies-{entries}"


def add(content: dict[str, Any], kept: Path) -> None:
    """Puts it all into a configuration of the bench."""
    content["lists"] = {
        name: {"file": str(kept / f"{name}.txt"), "kind": kind}
        for name, kind in ((_BIG, "numbers"), *((kind, kind) for kind in lists.MAKERS))
    }
    content["policies"]["house"] = rules(content["policies"]["house"])
    content["senders"] = {"packs": ["GB", "IE"], "protected": [f"Bank {n}" for n in range(100)]}
    content["brands"] = {
        f"brand-{n}": {"names": [f"Northwold {n}"], "domains": [f"bank-{n}.example"]} for n in range(20)
    }
    # Open all day: a bench that runs at night is no other.
    content["quiet_hours"] = {"countries": {"GB": {"hours": "00:00-24:00"}}}
    content["accounts"][0] |= {
        "class": "promotional",
        "consent": "required",
        "opt_out": {"told": "refuse", "lists": [_BIG]},
        "traffic": {"caps": {"GB": "1000000000/d", "default": "1000000/d"}},
        "suspend_after": {"hits": 10, "within": "1h", "rules": ["house", "traffic"]},
    }


def _sources(kept: Path, entries: int) -> None:
    for name, kind, count in ((_BIG, "numbers", entries), *((kind, kind, MILLION) for kind in lists.MAKERS)):
        path = kept / f"{name}.txt"
        half = path.with_suffix(".half")
        lists.write(half, kind, count)
        half.replace(path)


def place(kept: Path, entries: int, directory: Path, smppd: Callable[..., str]) -> None:
    """Gives a run's directory, whose configuration is written, its keys and its store. ``smppd``: runs a command on it."""
    if not (kept / "store").is_dir():
        kept.mkdir(parents=True, exist_ok=True)
        _sources(kept, entries)
        smppd("keys", "init")
        smppd("lists", "compile")
        rows = [f"{number},written,2026-11-01T10:00:00Z,bench,*,*" for number in _DESTINATIONS]
        consents = directory / "consents.csv"
        consents.write_text("\n".join(["number,form,time,evidence,class,sender", *rows, ""]))
        smppd("consent", "import", str(consents), "--account", "bench")
        numbers = directory / "opt-outs.csv"
        rows = [lists.number(7 * MILLION + at).decode() for at in range(OPTED_OUT)]
        numbers.write_text("\n".join(["number", *rows, ""]))
        smppd("optout", "import", str(numbers), "--account", "bench")
        shutil.copytree(directory / "keys", kept / "keys", dirs_exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix="store-", dir=kept))
        _copy(directory / "store", half)
        half.rename(kept / "store")
        return
    shutil.copytree(kept / "keys", directory / "keys", dirs_exist_ok=True)
    _copy(kept / "store", directory / "store")


def _copy(store: Path, to: Path) -> None:
    to.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(store, to, dirs_exist_ok=True, ignore=lambda path, _names: ["lists"] if Path(path) == store else [])
    (to / "lists").mkdir(mode=0o700)
    for file in (store / "lists").iterdir():
        os.link(file, to / "lists" / file.name)
