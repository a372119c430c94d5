"""Certificates for the tests, made by the openssl program for as long as the tests run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests._tools import tool

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


def authority(folder: Path, name: str) -> Certificate:
    """Make a certificate authority."""
    return _make(
        folder, name, None, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"
    )


def leaf(folder: Path, name: str, signer: Certificate, alternative: str) -> Certificate:
    """Make a certificate signed by `signer`; `alternative` as in ``DNS:localhost,IP:127.0.0.1``."""
    return _make(folder, name, signer, "basicConstraints=critical,CA:FALSE", f"subjectAltName={alternative}")


def _make(folder: Path, name: str, signer: Certificate | None, *extensions: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = [
        tool("openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(made.cert)]
    for extension in extensions:
        command += ["-addext", extension]
    if signer is not None:
        command += ["-CA", str(signer.cert), "-CAkey", str(signer.key)]
    subprocess.run(command, check=True, capture_output=True)
    return made
