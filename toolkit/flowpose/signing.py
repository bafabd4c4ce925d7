"""Ed25519 signatures of a file's bytes, by the library `cryptography`, which is imported only when a key is given.

A signature is 64 raw bytes, so that a machine without flowpose can check one too:
`openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in bundle.json -sigfile bundle.sig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ArtifactError, IntegrityError, MissingDependency

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LENGTH = 64  # bytes of a signature
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out KEY"
MAKE_PUBLIC = "openssl pkey -in KEY -pubout -out KEY.pub"


def sign(data: bytes, key: Path) -> bytes:
    """Returns the signature of some bytes, 64 bytes long; the same for the same bytes and key.

    Args:
        data: what is signed.
        key: a PEM file with an ed25519 private key that has no password.

    Raises:
        MissingDependency: the library cryptography is not installed.
        ArtifactError: the key cannot be read, or is another kind of key.
    """
    signature: bytes = _private(key).sign(data)
    return signature


def check(data: bytes, signature: bytes, key: Path, where: object) -> None:
    """Raises unless a signature is that of these bytes by the owner of the key.

    Args:
        data: what was signed.
        signature: 64 bytes.
        key: a PEM file with the ed25519 public key.
        where: the bundle, for the error.

    Raises:
        MissingDependency: the library cryptography is not installed.
        ArtifactError: the key cannot be read, or is another kind of key.
        IntegrityError: the signature is another's, or that of other bytes.
    """
    public = _public(key)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, data)
    except InvalidSignature as error:
        fix = "take the bundle from where it was signed again, or give the public key of who signed it"
        raise IntegrityError(where, f"the signature is not one by {key}", fix=fix) from error


def _private(key: Path) -> Ed25519PrivateKey:
    pem = _read(key)
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise _missing(key) from error
    try:
        found = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise _wrong(key, "private", MAKE_KEY) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise _wrong(key, "private", MAKE_KEY)
    return found


def _public(key: Path) -> Ed25519PublicKey:
    pem = _read(key)
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise _missing(key) from error
    try:
        found = load_pem_public_key(pem)
    except ValueError as error:
        raise _wrong(key, "public", MAKE_PUBLIC) from error
    if not isinstance(found, Ed25519PublicKey):
        raise _wrong(key, "public", MAKE_PUBLIC)
    return found


def _read(key: Path) -> bytes:
    try:
        return key.read_bytes()
    except OSError as error:
        fix = f"give the file of a key, or make one: {MAKE_KEY}; {MAKE_PUBLIC}"
        raise ArtifactError(key, f"the key cannot be read ({error.strerror})", fix=fix) from error


def _missing(key: Path) -> MissingDependency:
    fix = "pip install cryptography, or leave the key away"
    return MissingDependency(key, "signing needs the package cryptography", fix=fix)


def _wrong(key: Path, kind: str, make: str) -> ArtifactError:
    return ArtifactError(
        key, "not a key that can be used", expected=f"an ed25519 {kind} key as PEM", fix=make
    )
