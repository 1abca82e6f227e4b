"""The wheel is for one platform where it holds compiled modules; all else about the package stands in setup.cfg."""

from __future__ import annotations

from pathlib import Path

from setuptools import Distribution, setup


class PlatformDistribution(Distribution):  # type: ignore[misc]
    """Whether `tools/compile.py` has left something to pack decides the wheel's tag."""

    def has_ext_modules(self) -> bool:
        return any(Path("smppd", "_native").glob("*/*.so"))


setup(distclass=PlatformDistribution)
