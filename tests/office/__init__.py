"""Tests of what people do with the data of an installation."""
