"""A fake EC2: moto's server on loopback; its machines are local shells with the very script."""

import base64
import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

from smidgen.cloud import ec2  # noqa: E402
from smidgen.cloud.bundle import pack_input  # noqa: E402
from smidgen.cloud.ec2 import Cloud  # noqa: E402
from smidgen.cloud.rental import CloudJob, Notes, Work, new_name  # noqa: E402
from smidgen.recipes.recipe import Recipe  # noqa: E402
from smidgen.runs.store import RunStore  # noqa: E402

STUBS = {
    "shutdown": 'echo "shutdown $*" >> "$FAKE/calls"',
    "dnf": 'echo "dnf $*" >> "$FAKE/calls"; exit ${FAKE_DNF:-0}',
    "timeout": 'exec /usr/bin/timeout --signal=TERM --kill-after=2 "${FAKE_SECONDS:-60}" "${@:4}"',
    "python3.11": "mkdir -p venv/bin; cp $FAKE/bin/worker venv/bin/python; "
    "printf '#!/bin/bash\\nexit 0\\n' > venv/bin/pip; chmod +x venv/bin/*",
}


class Metadata(http.server.BaseHTTPRequestHandler):
    """The address at which a machine asks whether it is taken back."""

    notice = False

    def do_PUT(self) -> None:
        """Give a token."""
        self._answer(200)

    def do_GET(self) -> None:
        """Say whether there is a notice."""
        self._answer(200 if type(self).notice else 404)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words: object) -> None:
        """Say nothing."""


class FakeCloud:
    """What the tests need of an account: its servers, its machines, the driver's places."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = Notes(folder / "runs" / ".cloud")
        self.store = RunStore(folder / "runs")
        self.told: list[str] = []
        self.cloud = Cloud(self.notes, self.store, "us-east-1", self.told.append)
        self.client: Any = boto3.client("ec2", region_name="us-east-1")

    def job(
        self, recipe: Recipe, dollars: float = 0.5, minutes: int = 30
    ) -> tuple[CloudJob, bytes]:
        """Return a job that trains a recipe with seed 1, and its input."""
        words = ("train", "recipe.json", "--seed", "1", "--runs-dir", "runs")
        work = Work("train tiny", words, recipe.to_json())
        job = CloudJob(
            name=new_name(work.title),
            title=work.title,
            region="us-east-1",
            bucket="",
            instance_types=("c6i.large",),
            max_dollars=dollars,
            minutes=minutes,
            command=words,
            image="ami-12c6146b",
        )
        return job, pack_input(work)

    def alive(self) -> list[str]:
        """Return the machines that still cost money."""
        pages = self.client.describe_instances()["Reservations"]
        machines = [m for page in pages for m in page["Instances"]]
        return [m["InstanceId"] for m in machines if m["State"]["Name"] != "terminated"]

    def boot(self, instance: str, worker: str, **environment: str) -> "Machine":
        """Start a machine's script, with `worker` as what its Python does."""
        told = self.client.describe_instance_attribute(InstanceId=instance, Attribute="userData")
        script = base64.b64decode(told["UserData"]["Value"]).decode()
        return Machine(self, instance, script, worker, environment)


class Machine(threading.Thread):
    """A local shell that runs a machine's script; ends the instance as `shutdown` would."""

    def __init__(
        self, fake: FakeCloud, instance: str, script: str, worker: str, environment: dict[str, str]
    ) -> None:
        super().__init__(daemon=True)
        self.folder = fake.folder / instance
        self._fake, self._instance = fake, instance
        binaries = self.folder / "bin"
        binaries.mkdir(parents=True)
        for name, body in {**STUBS, "worker": worker}.items():
            (binaries / name).write_text(f"#!/bin/bash\n{body}\n")
            (binaries / name).chmod(0o755)
        (self.folder / "script").write_text(script)
        self._environment = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "SMIDGEN_MACHINE": str(self.folder / "work"),
            "SMIDGEN_POLL_SECONDS": "0.1",
            "MACHINE_PYTHON": sys.executable,
            "no_proxy": "127.0.0.1",
            **environment,
        }
        self.start()

    def run(self) -> None:
        """Run the script; then the machine is gone."""
        subprocess.run(["bash", str(self.folder / "script")], env=self._environment, timeout=400)
        self._fake.client.terminate_instances(InstanceIds=[self._instance])

    @property
    def calls(self) -> list[str]:
        """What it asked of the system, in order."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str]]:
    """Run moto's server and the metadata address on loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=metadata.serve_forever, daemon=True).start()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "SMIDGEN_METADATA": f"http://127.0.0.1:{metadata.server_address[1]}",
    }
    server.stop()
    metadata.shutdown()
    metadata.server_close()


@pytest.fixture
def fake(
    servers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeCloud]:
    """Return an empty account."""
    for name, text in {
        **servers,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(ec2, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(Metadata, "notice", False)
    import urllib.request

    reset = urllib.request.Request(servers["AWS_ENDPOINT_URL"] + "/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    fake = FakeCloud(tmp_path)
    yield fake
    assert fake.alive() == [], "a machine is left that costs money"


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    """Wait until something is true; fail after a generous time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def end_json(code: int) -> bytes:
    """Return what a machine writes at its end when it has no results."""
    return json.dumps({"code": code, "results_sha256": "", "seconds": 60}).encode()
