"""What Flower's parties know each other by: a server certificate, and a key of each laboratory."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from matml.core.errors import MatmlError
from matml.core.files import write_text

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "server.crt", "server.key"
DAYS = 365
PEM = serialization.Encoding.PEM


def make_certificates(folder: Path, hosts: Sequence[str]) -> None:
    """Write an authority's certificate, and the SuperLink's certificate and key.

    The authority's own key is thrown away: nobody can make a second certificate that laboratories
    would trust.

    Parameters
    ----------
    hosts
        Names or addresses that laboratories reach the SuperLink by.
    """
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name("matml federated authority")
    own = x509.SubjectKeyIdentifier.from_public_key(ours.public_key())
    signs = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    ) | {"encipher_only": False, "decipher_only": False}
    authority = (
        _certificate(issuer, issuer, ours.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **signs),
            critical=True,
        )
        .add_extension(own, critical=False)
        .sign(ours, hashes.SHA256())
    )
    server = (
        _certificate(_name("matml federated SuperLink"), issuer, theirs.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(theirs.public_key()), critical=False
        )
        .sign(ours, hashes.SHA256())
    )
    secret = theirs.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_secret(folder / KEY, secret)
    write_text(folder / CERTIFICATE, server.public_bytes(PEM).decode())
    write_text(folder / AUTHORITY, authority.public_bytes(PEM).decode())


def make_key(laboratory: str, secret: Path, public: Path) -> None:
    """Write the key that a laboratory's SuperNode shows, and its public half with the name."""
    if not laboratory.strip() or len(laboratory.split()) > 1:
        raise MatmlError(f"--laboratory {laboratory!r}: give its name, in one word")
    key = ec.generate_private_key(ec.SECP384R1())
    _write_secret(
        secret,
        key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
    )
    told = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    write_text(public, f"{told.decode()} {laboratory}\n")


def laboratories_of(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files of public keys by the laboratory that each names.

    Raises
    ------
    MatmlError
        Where one is no public key with a name, or a laboratory or a key is there twice.
    """
    found: dict[str, Path] = {}
    keys: dict[str, str] = {}
    for path in paths:
        words = path.read_text(errors="replace").split()
        if len(words) != 3 or not words[0].startswith("ecdsa-sha2-"):
            raise MatmlError(
                f"{path}: is not the public key of a laboratory; give what `matml federated flower "
                "key` writes with --out"
            )
        _, key, name = words
        if name in found or key in keys:
            raise MatmlError(f"{path}: {keys.get(key, name)!r} is there already; give one key each")
        found[name], keys[key] = path, name
    return found


def _write_secret(path: Path, content: bytes) -> None:
    write_text(path, content.decode())
    path.chmod(0o600)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
    )
