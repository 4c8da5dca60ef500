"""What certificates say: whom they name, who has signed them, and until when. Reads PEM files; knows no gRPC and no network.

A node's certificate is signed by `ca` and has the node's id among its DNS names, in any case of letters. Where clients have an
authority of their own (`client_ca`), signing tells nodes from clients and the name may be missing; where they share one, only the
name does, so it must be there (docs/security.md, ADR 5).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from kvproto.errors import UserError
from kvstore.config import TlsConfig

Certificates = Sequence[x509.Certificate]


@dataclass(frozen=True, slots=True)
class NodePem:
    """A node's files as they were read, and what follows from them. `expires_at_ms`: the first end among what it presents.
    `must_name`: clients may have certificates of the same authority, so a node's must name it."""

    cert: bytes
    key: bytes
    ca: bytes
    client_ca: bytes
    authorities: tuple[x509.Certificate, ...]
    expires_at_ms: int
    must_name: bool


def read_node_pem(tls: TlsConfig, *, node_id: str, members: Collection[str], now_ms: int) -> NodePem:
    """Reads and checks the files. Raises `UserError` naming the file and what is wrong: with it neither clients nor peers would
    work with this node."""
    cert, key, ca = _read(tls.cert), _read(tls.key), _read(tls.ca)
    client_ca = b"" if tls.client_ca is None else _read(tls.client_ca)
    chain, authorities = _certificates(tls.cert, cert), _certificates(tls.ca, ca)
    clients = () if tls.client_ca is None else _certificates(tls.client_ca, client_ca)
    _check_key(tls, key, chain[0])
    for one in chain:
        if not _ms(one.not_valid_before_utc) <= now_ms < _ms(one.not_valid_after_utc):
            valid = f"{one.not_valid_before_utc:%Y-%m-%d %H:%M} to {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            raise _wrong(tls.cert, f"is valid from {valid} only: renew it, or look at the clock")
    if not is_signed_by(chain[0], chain[1:], authorities, now_ms):
        raise _wrong(tls.cert, f"is not signed by an authority in {tls.ca}: the peers would refuse this node")
    must_name = tls.client_ca is None or _overlap(authorities, clients)
    reason = why_not_named(dns_names(chain[0]), node_id, members, must_name=must_name)
    if reason:
        raise _wrong(tls.cert, reason)
    expires_at_ms = min(_ms(one.not_valid_after_utc) for one in chain)
    return NodePem(cert, key, ca, client_ca, tuple(authorities), expires_at_ms, must_name)


def dns_names(certificate: x509.Certificate) -> frozenset[str]:
    """Its DNS names, in small letters."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))


def why_not_named(names: Collection[str], node_id: str, members: Iterable[str], *, must_name: bool) -> str:
    """Why a certificate with these DNS names is not that of `node_id` ("": of any node); empty when nothing speaks against it."""
    named = sorted(member for member in members if member.lower() in names)
    if named and node_id and node_id not in named:
        return f"is that of {', '.join(named)}, not of {node_id}"
    if must_name and not named:
        return f"names no node: the DNS names of a node's certificate hold its id{f', {node_id}' if node_id else ''}"
    return ""


def is_signed_by(leaf: x509.Certificate, others: Certificates, authorities: Certificates, now_ms: int) -> bool:
    """Whether a path leads from `leaf` over `others` to one of `authorities`, all of it valid now."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC).replace(tzinfo=None)
    builder = PolicyBuilder().store(Store(list(authorities))).time(at)
    # The web's rules for leaves (key usages, a subject, …) are not asked for: OpenSSL's own defaults would not pass them.
    builder = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=ExtensionPolicy.permit_all())
    try:
        builder.build_client_verifier().verify(leaf, list(others))
    except (VerificationError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(policy: object, certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:  # noqa: ARG001 - the library's
    if not extension.ca:
        raise ValueError("not an authority")


_AUTHORITY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)


def _overlap(authorities: Certificates, clients: Certificates) -> bool:
    """Whether what signs clients also counts as signing nodes: the same authority, or one below it."""
    return any(client == authority or _is_issued_by(client, authority) for client in clients for authority in authorities)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_key(tls: TlsConfig, key: bytes, leaf: x509.Certificate) -> None:
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except TypeError:
        raise _wrong(tls.key, "has a password: the node could not start by itself; store it without one") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(tls.key, f"is no private key in PEM ({error})") from error
    forms = [one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for one in (public, leaf.public_key())]
    if forms[0] != forms[1]:
        raise _wrong(tls.key, f"does not belong to {tls.cert}")


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(path, f"holds no certificates in PEM ({error})") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror or error})") from error


def _wrong(path: Path, what: str) -> UserError:
    return UserError(f"[tls]: {path} {what}", subject=str(path))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
