"""Configurations of other gateways, Kannel and Jasmin, made into one of smppd: text in, a `Draft` out.

Pure: opens no file, asks no clock, and takes what hashes a password from whoever calls. What cannot be carried over is a
sentence with its file and line (`Left`). Secrets stay apart from the configuration, in `Draft.secrets`.
"""

from __future__ import annotations

from smppd.migration.draft import Draft, Left, MigrationError, Place, Source
from smppd.migration.jasmin import read_jasmin
from smppd.migration.kannel import read_kannel
from smppd.migration.text import yaml_text

__all__ = ["Draft", "Left", "MigrationError", "Place", "Source", "read_jasmin", "read_kannel", "yaml_text"]
