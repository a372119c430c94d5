"""Programs that serve the same samples as the exporter, for comparison."""

from __future__ import annotations

import gzip
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from bench.processes import answers, free_port, insecure, listens, program, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.processes import Popen

TOKEN = "bench-token-0123456789"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its process, and where it serves the metrics, with TLS too if it can."""

    name: str
    process: Popen
    url: str
    tls_url: str | None = None


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine; return it and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    openssl = program("openssl")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@contextmanager
def exporter(api: str, folder: Path, *, tls: bool = False, every: str = "10m") -> Iterator[Server]:
    """Run the exporter on the fake API; what it polls it polls `every` so often."""
    folder.mkdir(exist_ok=True)
    config = {
        "accounts": [{"name": "main", "access_token": TOKEN, "base_url": api, "currency": "EUR"}],
        "poll": {
            "refresh": [{"younger_than": "14d", "every": every}],
            "still_sending": None,
            "conversions_every": every,
            "stale_after": "1h",
        },
        "api": {"requests_per_second": 100_000, "retries": 0},
        "metrics": {"zero_hold": "0s"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    flags = ["--config.file=config.yaml", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    if tls:
        cert, key = certificate(folder)
        web = {"tls_server_config": {"cert_file": str(cert), "key_file": str(key)}}
        (folder / "web.yaml").write_text(yaml.safe_dump(web))
        flags.append("--web.config.file=web.yaml")
    with running([sys.executable, "-m", "exporter", *flags], cwd=folder) as process:
        address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/-/ready"), "the exporter is ready")
        until(lambda: b"intarget_campaign_deposits{" in _body(f"{address}/metrics"), "conversions are read")
        yield Server("exporter", process, f"{address}/metrics")


def _body(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60, context=insecure()) as answer:
        body: bytes = answer.read()
        return body


@contextmanager
def nginx(body: bytes, folder: Path) -> Iterator[Server]:
    """Serve the bytes as a static file, compressed beforehand, in the clear and over TLS."""
    folder.mkdir(exist_ok=True)
    (folder / "metrics").write_bytes(body)
    (folder / "metrics.gz").write_bytes(gzip.compress(body, 6))
    cert, key = certificate(folder)
    port, tls_port = free_port(), free_port()
    (folder / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type "text/plain; version=0.0.4"; gzip_static on; keepalive_requests 1000000;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {cert}; ssl_certificate_key {key};
    root {folder};
  }}
}}
""")
    command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with running(command) as process:
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: answers(url), "nginx answers")
        yield Server("nginx", process, url, f"https://127.0.0.1:{tls_port}/metrics")


@contextmanager
def pushgateway(body: bytes, _folder: Path) -> Iterator[Server]:
    """Push the samples to a Pushgateway."""
    port = free_port()
    command = [program("prometheus-pushgateway")]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"]) as process:
        until(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), "the Pushgateway answers")
        url = f"http://127.0.0.1:{port}/metrics/job/bench"
        request = urllib.request.Request(url, data=body, method="PUT")
        urllib.request.urlopen(request, timeout=120).close()
        yield Server("pushgateway", process, f"http://127.0.0.1:{port}/metrics")


@contextmanager
def textfile(body: bytes, folder: Path) -> Iterator[Server]:
    """Let node_exporter read them from a file."""
    folder.mkdir(exist_ok=True)
    (folder / "bench.prom").write_bytes(body)
    port = free_port()
    command = [program("prometheus-node-exporter"), "--collector.disable-defaults"]
    command += ["--collector.textfile", f"--collector.textfile.directory={folder}"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"]) as process:
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: listens(port), "node_exporter listens")
        yield Server("node_exporter textfile", process, url)


@contextmanager
def client_library(body: bytes, folder: Path) -> Iterator[Server]:
    """Serve them by a collector of prometheus-client."""
    folder.mkdir(exist_ok=True)
    (folder / "metrics").write_bytes(body)
    port = free_port()
    with running([sys.executable, "-m", "bench.collector", str(folder / "metrics"), str(port)]) as process:
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: listens(port), "prometheus-client listens")
        yield Server("prometheus-client", process, url)


@contextmanager
def all_peers(body: bytes, folder: Path) -> Iterator[list[Server]]:
    """Run all of them on the same samples."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(start(body, folder / start.__name__))
            for start in (nginx, pushgateway, textfile, client_library)
        ]
