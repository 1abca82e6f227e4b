"""What the tests of the record share: each of them runs on every back end that a store has."""

from tests.store.houses import house

__all__ = ["house"]
