import json

import pytest
from typer.testing import CliRunner

from smidgen.cli.app import app


def run(*words: str) -> tuple[int, str]:
    """Run a command and return its exit code and what it said."""
    result = CliRunner().invoke(app, ["cloud", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_dry_run_needs_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run shows request, script and arithmetic, without boto3 being asked for anything."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    code, text = run(
        *("train", "smidgen/quick", "--set", "dataset=stripes"),
        *("--max-dollars", "0.5", "--minutes", "30", "--dry-run"),
    )
    request = json.loads(text[text.index("{") : text.index("\n#!/bin/bash")])

    assert code == 0
    assert "0.8511 dollars an hour at most" in text
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] == "0.8511"
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert "KeyName" not in request
    assert "IamInstanceProfile" not in request
    script = text[text.index("#!/bin/bash") :].splitlines()
    assert next(line for line in script if line[0] != "#").startswith("shutdown -h +33")


def test_senseless_cap_is_refused_first() -> None:
    """A cap that buys nothing is refused before data or account are looked at."""
    code, said = run("train", "smidgen/quick", "--max-dollars", "0.0001")

    assert code == 1
    assert "Give at least `--max-dollars 0.0041`" in said


def test_policy_is_json() -> None:
    """The printed policy is JSON that allows to run machines, and to end only ours."""
    code, text = run("policy")
    statements = json.loads(text)["Statement"]

    assert code == 0
    assert "ec2:RunInstances" in statements[0]["Action"]
    assert statements[1]["Action"] == "ec2:TerminateInstances"
    assert "Condition" in statements[1]


def test_unknown_job_is_told() -> None:
    """A job that is not there is told with where it was looked for."""
    code, said = run("fetch", "nothing")

    assert code == 1
    assert "is no job in" in said
