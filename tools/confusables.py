"""Packs Unicode's confusables.txt (UTS 39) into `smppd/policy/confusables.json`: `python -m tools.confusables FILE`.

FILE is https://www.unicode.org/Public/security/VERSION/confusables.txt, as Unicode publishes it. Comments and names are
left out, what looks the same is gathered under one prototype, and Unicode's licence goes along.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final

TARGET: Final = Path(__file__).resolve().parent.parent / "smppd" / "policy" / "confusables.json"

LICENCE: Final = """\
UNICODE LICENSE V3. COPYRIGHT AND PERMISSION NOTICE. Copyright © 1991-2025 Unicode, Inc.

NOTICE TO USER: Carefully read the following legal agreement. BY DOWNLOADING, INSTALLING, COPYING OR OTHERWISE USING \
DATA FILES, AND/OR SOFTWARE, YOU UNEQUIVOCALLY ACCEPT, AND AGREE TO BE BOUND BY, ALL OF THE TERMS AND CONDITIONS OF \
THIS AGREEMENT. IF YOU DO NOT AGREE, DO NOT DOWNLOAD, INSTALL, COPY, DISTRIBUTE OR USE THE DATA FILES OR SOFTWARE.

Permission is hereby granted, free of charge, to any person obtaining a copy of data files and any associated \
documentation (the "Data Files") or software and any associated documentation (the "Software") to deal in the Data \
Files or Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, \
distribute, and/or sell copies of the Data Files or Software, and to permit persons to whom the Data Files or Software \
are furnished to do so, provided that either (a) this copyright and permission notice appear with all copies of the \
Data Files or Software, or (b) this copyright and permission notice appear in associated Documentation.

THE DATA FILES AND SOFTWARE ARE PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT \
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT OF THIRD PARTY \
RIGHTS.

IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN THIS NOTICE BE LIABLE FOR ANY CLAIM, OR ANY SPECIAL \
INDIRECT OR CONSEQUENTIAL DAMAGES, OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN \
AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR \
PERFORMANCE OF THE DATA FILES OR SOFTWARE.

Except as contained in this notice, the name of a copyright holder shall not be used in advertising or otherwise to \
promote the sale, use or other dealings in these Data Files or Software without prior written authorization of the \
copyright holder."""


def packed(text: str) -> dict[str, object]:
    """What goes into the file, of the text of confusables.txt. ValueError for what is not such a text."""
    date = re.search(r"^# Date: (\d{4}-\d\d-\d\d)", text, re.MULTILINE)
    version = re.search(r"^# Version: (\S+)", text, re.MULTILINE)
    if date is None or version is None:
        raise ValueError("it has no date and version: it is not Unicode's confusables.txt")
    likes: dict[str, list[str]] = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        fields = [field.strip() for field in line.split("#", 1)[0].split(";")]
        if fields == [""]:
            continue
        if len(fields) != 3 or not all(re.fullmatch(r"[0-9A-F]{4,6}( [0-9A-F]{4,6})*", field) for field in fields[:2]):
            raise ValueError(f"line {number} is not `code ; codes ; MA`")
        likes.setdefault(fields[1], []).append(fields[0])
    return {
        "source": f"https://www.unicode.org/Public/security/{version[1]}/confusables.txt",
        "version": version[1],
        "date": date[1],
        "licence": LICENCE,
        "likes": {prototype: " ".join(codes) for prototype, codes in sorted(likes.items())},
    }


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m tools.confusables FILE", file=sys.stderr)
        return 2
    content = packed(Path(arguments[0]).read_text(encoding="utf-8-sig"))
    TARGET.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
