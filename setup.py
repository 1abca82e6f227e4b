"""The wheel is for one platform where it holds compiled modules, and brings man pages and completion where `make wheel` made
them; all else about the package stands in setup.cfg."""

from __future__ import annotations

from pathlib import Path

from setuptools import Distribution, setup


class PlatformDistribution(Distribution):  # type: ignore[misc]
    """Whether `tools/compile.py` has left something to pack decides the wheel's tag."""

    def has_ext_modules(self) -> bool:
        return any(Path("smppd", "_native").glob("*/*.so"))


PAGES = Path("dist", "pages")
"""What `python -m tools.pages` wrote."""

setup(
    distclass=PlatformDistribution,
    data_files=[
        (place, files)
        for place, files in (
            ("share/man/man1", sorted(map(str, PAGES.glob("man/*.1")))),
            ("share/bash-completion/completions", sorted(map(str, PAGES.glob("smppd")))),
            ("share/zsh/site-functions", sorted(map(str, PAGES.glob("_smppd")))),
        )
        if files
    ],
)
