"""`python -m workshop.certificate ADDRESS`: a certificate for HTTPS in a room without a domain.

Nobody vouches for it, so each browser warns once. Whoever compares the fingerprint that the browser
shows with the one that is printed here knows that they talk with this computer.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mbm_lab import atomic

DAYS = 30


def make(addresses: list[str], folder: Path) -> tuple[Path, Path, str]:
    """Writes certificate and key for these addresses or names; returns both files and the print.

    The fingerprint is SHA-256, in pairs of hexadecimal digits. Raises ValueError when no address is
    given, OSError when a file is there already or cannot be written.
    """
    if not addresses:
        raise ValueError("Name the address that learners will type: its number, its name, or both.")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MBM Lab classroom")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(a) for a in addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    atomic.make_folder(folder)
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for file in (key, certificate):
        if file.exists() or file.is_symlink():
            raise OSError(f"{file} is there already: use it, or move it away first.")
    try:
        atomic.write_whole(key, partial(_write_secretly, secret))
        atomic.write_whole(certificate, partial(_write_secretly, made.public_bytes(_PEM)))
    except OSError:
        key.unlink(missing_ok=True)  # one without the other is of no use
        raise
    return certificate, key, made.fingerprint(hashes.SHA256()).hex(":").upper()


def _write_secretly(content: bytes, file: Path) -> None:
    """Writes a new file that only its owner may read."""
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as output:
        output.write(content)


_PEM = serialization.Encoding.PEM


def _name(address: str) -> x509.GeneralName:
    """An address as a certificate says it: a number or a name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def main() -> int:
    """Makes a certificate for the addresses in the command; returns the exit status."""
    from workshop import hub_settings

    try:
        folder = hub_settings.folder()
        certificate, key, fingerprint = make(sys.argv[1:], folder / "https")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Made for {DAYS} days. Start the hub with:\n")
    print(f"    MBM_HUB_ADDRESS=0.0.0.0 MBM_HUB_CERTIFICATE={certificate} MBM_HUB_KEY={key}\n")
    print("Show the learners this fingerprint (SHA-256), to compare with their browser's:\n")
    print(f"    {fingerprint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
