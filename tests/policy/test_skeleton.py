"""What a text looks like: what a person takes for one name has one skeleton, what is another name has another."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy.skeleton import skeleton, skeleton_words
from tools import confusables


@pytest.mark.parametrize(
    "forged",
    [
        "PAYPAL",
        "PayPaI",
        "Paypa1",
        "PayPa|",
        "P@yPal",
        "Pay-Pal",
        "P a y P a l",
        "pay.pal!",
        "PаyPаl",  # Cyrillic a
        "раураl",  # Cyrillic er, a, u
        "ΡΑΥΡΑL",  # Greek
        "ᏢᎪᎩᏢᎪᏞ",  # Cherokee
        "ꓑаypal",  # Lisu
        "ᴘᴀʏᴘᴀʟ",
        "𝐩𝐚𝐲𝐩𝐚𝐥",
        "ｐａｙｐａｌ",
        "ⓟⓐⓨⓟⓐⓛ",
        "⒫⒜⒴⒫⒜⒧",
        "🅿🅰🆈🅿🅰🅻",
        "🇵🇦🇾🇵🇦🇱",
        "páypál",
        "Ƥaypal",
        "p\u200bay\u00adpal",
        "\u202epaypal",
    ],
)
def test_a_forged_name_looks_like_the_name(forged: str) -> None:
    assert skeleton(forged) == skeleton("PayPal")


@pytest.mark.parametrize(
    ("forged", "name"),
    [
        ("Amaz0n", "AMAZON"),
        ("vvestpac", "Westpac"),
        ("Wells Farg0", "wellsfargo"),
        ("HMRC", "HМRС"),
        ("hsbc", "нsвс"),
        ("Barclays", "ВаrсIауs"),
        ("modern", "modem"),
        ("$antander", "Santander"),
        ("fìnance", "ﬁnance"),
        ("lloyds", "ŁŁøyds"),
        ("Straße", "STRASSE"),
        ("банк россии", "Банк.России"),
        ("مصرف", "مَصرف"),
        ("٥٥", "oo"),
        ("№ 5", "No.5"),
        ("½", "1/2"),
    ],
)
def test_names_that_look_the_same(forged: str, name: str) -> None:
    assert skeleton(forged) == skeleton(name) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("PayPal", "PayPals"),
        ("HSBC", "HSBD"),
        ("Lloyds", "Loyds"),
        ("微信", "微博"),
        ("हिन्दी", "हन्द"),
        ("A4", "Aa"),
        ("vodafone", "nodafone"),
    ],
)
def test_other_names_look_otherwise(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@pytest.mark.parametrize("text", ["", " ", "!?.", "\u200b", "😀", "\ud800"])
def test_what_has_no_letters_has_no_skeleton(text: str) -> None:
    assert skeleton(text) == skeleton_words(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Your Раypal, now!", "your paypal now"),
        ("Your Pay.Pal", "your pay pal"),
        (" modern  BURN ", "modem bum"),
        ("r n", "r n"),
    ],
)
def test_words_keep_their_gaps(text: str, words: str) -> None:
    assert skeleton_words(text) == words


def test_a_gap_does_not_keep_two_letters_from_looking_like_one() -> None:
    assert skeleton("mode r n") == skeleton("modem")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_has_a_skeleton_of_letters_and_digits(text: str) -> None:
    made = skeleton(text)
    assert not any(letter.isspace() for letter in made)
    assert "rn" not in made and "vv" not in made
    assert skeleton(f" {text}. ") == made


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=[chr(code) for code in range(128)], max_size=40))
def test_ascii_alone_and_beside_other_letters_is_read_alike(text: str) -> None:
    assert skeleton(text + "中") == skeleton(text) + "中"
    assert skeleton(text.upper()) == skeleton(text.lower())


# -- the data ------------------------------------------------------------------------------------------------------


def test_the_data_say_where_they_are_from() -> None:
    content = json.loads((resources.files("smppd.policy") / "confusables.json").read_text(encoding="utf-8"))
    assert content["version"] in content["source"]
    assert "UNICODE LICENSE V3" in content["licence"]
    assert sum(len(codes.split()) for codes in content["likes"].values()) > 6000


def test_unicodes_file_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, target = tmp_path / "confusables.txt", tmp_path / "out.json"
    monkeypatch.setattr(confusables, "TARGET", target)
    file.write_text(
        "\ufeff# confusables.txt\n# Date: 2025-07-22, 05:49:37 GMT\n# Version: 17.0.0\n\n"
        "0430 ;\t0061 ;\tMA\t# ( а → a ) ... #\n0251 ;\t0061 ;\tMA\t#\n2105 ;\t0063 002F 006F ;\tMA\t#*\n",
        encoding="utf-8",
    )
    assert confusables.main([str(file)]) == 0
    content = json.loads(target.read_text(encoding="utf-8"))
    assert content["date"] == "2025-07-22"
    assert content["likes"] == {"0061": "0430 0251", "0063 002F 006F": "2105"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0430 ;\t0061 ;\tMA\n",
        "# Date: 2025-07-22\n# Version: 17.0.0\n0430 ;\t0061\n",
        "# Date: 2025-07-22\n# Version: 1\nx ; 1 ; MA",
    ],
)
def test_what_is_not_unicodes_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        confusables.packed(text)
