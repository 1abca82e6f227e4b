"""Checkpoints as versions before there were seals signed them: for tests of what such a version left behind."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smppd.vault.chain import _CHECKPOINT, _CONTEXT, Checkpoint


def sign_checkpoint(key: Ed25519PrivateKey, checkpoint: Checkpoint) -> bytes:
    """The checkpoint as signed bytes."""
    packed = _CHECKPOINT.pack(_CONTEXT, *checkpoint)
    return packed + key.sign(packed)
