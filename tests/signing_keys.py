"""Keys for tests of signatures."""

from __future__ import annotations

from pathlib import Path

import pytest


def signing_keys(folder: Path) -> tuple[Path, Path, Path]:
    """Writes a private key, its public key, and another's public key; skips without the package cryptography."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives import serialization as form

    mine, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    pem, bare = form.Encoding.PEM, form.NoEncryption()
    (folder / "mine").write_bytes(mine.private_bytes(pem, form.PrivateFormat.PKCS8, bare))
    for name, key in (("mine.pub", mine), ("other.pub", other)):
        public = key.public_key().public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo)
        (folder / name).write_bytes(public)
    return folder / "mine", folder / "mine.pub", folder / "other.pub"
