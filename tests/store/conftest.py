"""What the tests of stores share: a test that asks for a house runs on every back end."""

from tests.store.houses import house

__all__ = ["house"]
