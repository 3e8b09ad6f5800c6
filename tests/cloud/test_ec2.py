import threading
import time
from typing import Any

import pytest

pytest.importorskip("boto3")
pytest.importorskip("moto.server")

from smidgen.cloud import ec2
from smidgen.cloud.ec2 import Cloud, policy
from smidgen.cloud.rental import CloudJob
from smidgen.errors import CloudError
from smidgen.files import write_atomically
from smidgen.recipes.recipe import Recipe
from tests.cloud.conftest import FakeCloud, Metadata, wait_for

REAL = 'exec "$MACHINE_PYTHON" "$@"'
HANG = "sleep 1000"
QUICK = "exit 0"


def follow(fake: FakeCloud, job: CloudJob) -> dict[str, Any]:
    """Follow a job in a thread; the answer comes into the dictionary."""
    answer: dict[str, Any] = {}

    def run() -> None:
        try:
            answer["job"], answer["runs"] = fake.cloud.follow(job)
        except CloudError as error:
            answer["error"] = str(error)

    answer["thread"] = threading.Thread(target=run, daemon=True)
    answer["thread"].start()
    return answer


@pytest.mark.slow
def test_good_end_brings_the_run_home(fake: FakeCloud, tiny_recipe: Recipe) -> None:
    """A machine sets its end first, trains, gives the run back and is gone."""
    job = fake.cloud.submit(*fake.job(tiny_recipe))
    machine = fake.boot(job.instance, REAL, FAKE_SECONDS="300")

    job, runs = fake.cloud.follow(job)

    assert job.outcome == "done"
    assert machine.calls[0] == "shutdown -h +33"
    assert machine.calls[-1] == "shutdown -h now"
    assert runs[0].record().result is not None
    assert job.spent_dollars <= 0.5


@pytest.mark.slow
def test_spot_notice_goes_on_bit_for_bit(
    fake: FakeCloud, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a spot notice a second machine ends with the very weights of an undisturbed run."""
    recipe = tiny_recipe.replace(epochs=60)
    job = fake.cloud.submit(*fake.job(recipe))
    first = fake.boot(job.instance, REAL, FAKE_SECONDS="300")
    work = first.folder / "work" / "runs"
    wait_for(lambda: list(work.glob("*/checkpoint-0002*")))
    monkeypatch.setattr(Metadata, "notice", True)
    answer = follow(fake, job)
    wait_for(lambda: not first.is_alive())
    monkeypatch.setattr(Metadata, "notice", False)
    wait_for(lambda: fake.notes.find(job.name).attempt == 2 and fake.alive())
    fake.boot(fake.alive()[0], REAL, FAKE_SECONDS="300")
    answer["thread"].join(400)

    undisturbed, content = fake.job(recipe)
    undisturbed = fake.cloud.submit(undisturbed, content)
    other = Cloud(fake.notes, type(fake.store)(fake.folder / "other"), "us-east-1")
    fake.boot(undisturbed.instance, REAL, FAKE_SECONDS="300")
    _, runs = other.follow(undisturbed)

    assert "error" not in answer
    again = answer["runs"][0].record()
    assert again.files["model.safetensors"] == runs[0].record().files["model.safetensors"]
    assert [e.epoch for e in again.epochs] == list(range(1, 61))
    assert answer["job"].spent_minutes >= 2


def test_hanging_work_is_cut(fake: FakeCloud, tiny_recipe: Recipe) -> None:
    """Work that hangs is stopped at its limit, told in a line, and the machine is gone."""
    job = fake.cloud.submit(*fake.job(tiny_recipe))
    fake.boot(job.instance, HANG, FAKE_SECONDS="1")

    with pytest.raises(CloudError, match="took longer than its minutes and was stopped"):
        fake.cloud.follow(job)


def test_failing_install_is_told(fake: FakeCloud, tiny_recipe: Recipe) -> None:
    """A machine that cannot install says so and ends."""
    job = fake.cloud.submit(*fake.job(tiny_recipe))
    fake.boot(job.instance, QUICK, FAKE_DNF="1")

    with pytest.raises(CloudError, match="could not install what smidgen needs"):
        fake.cloud.follow(job)


def test_orphan_is_swept_after_its_time(
    fake: FakeCloud, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that never ran its script lives until its tag's time, and no call longer."""
    job = fake.cloud.submit(*fake.job(tiny_recipe, minutes=1))
    assert fake.cloud.sweep() == []
    now = time.time()
    monkeypatch.setattr(ec2.time, "time", lambda: now + 7 * 60)

    assert fake.cloud.sweep() == [job.instance]


def test_stop_ends_the_machine(fake: FakeCloud, tiny_recipe: Recipe) -> None:
    """`stop` ends a job's machine at once."""
    job = fake.cloud.submit(*fake.job(tiny_recipe))

    assert fake.cloud.stop(job).state == "ended"


@pytest.mark.parametrize("writes", range(1, 5))
def test_driver_killed_at_a_write_finds_its_machine(
    fake: FakeCloud, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Whichever write of its note a driver dies at, the next one ends with one machine, paid."""
    count = 0

    def dying(path: Any, content: Any) -> None:
        nonlocal count
        count += 1
        if count == writes:
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr("smidgen.cloud.rental.write_atomically", dying)
    job, content = fake.job(tiny_recipe)
    try:
        job = fake.cloud.submit(job, content)
        first = fake.boot(job.instance, QUICK)
        fake.cloud.follow(job)
        first.join()
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    _again(fake, monkeypatch)
    known = fake.notes.all()
    if not known:  # it died before its first note, and asked for nothing
        assert writes == 1
        return
    answer = follow(fake, known[0])
    booted: set[str] = {path.name for path in fake.folder.glob("i-*")}
    while answer["thread"].is_alive():
        for name in set(fake.alive()) - booted:
            fake.boot(name, QUICK)
            booted.add(name)
        answer["thread"].join(0.1)
    assert "error" not in answer
    assert len(booted) == 1, "a second machine was paid for the same work"


def _again(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set again what undoing took back."""
    monkeypatch.setattr(ec2, "POLL_SECONDS", 0.1)
    host = fake.client.meta.endpoint_url
    for name, text in {
        "AWS_ENDPOINT_URL": host,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, text)


def refuse(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let EC2 refuse to run machines."""
    from botocore.exceptions import ClientError

    def no(**request: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "Encoded: abc"}}, "RunInstances")

    monkeypatch.setattr(fake.cloud._ec2, "run_instances", no)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("VPCIdNotSpecified", "no default network in this region"),
        ("UnauthorizedOperation", "lack the right to ec2:RunInstances. `smidgen cloud policy`"),
        ("MaxSpotInstanceCountExceeded", "quota of spot machines is used up"),
        ("VcpuLimitExceeded", "counts processors, is used up"),
        ("RequestExpired", "credentials have expired"),
        ("InsufficientInstanceCapacity", "No zone has a machine free"),
    ],
)
def test_misfortunes_get_one_line(
    fake: FakeCloud,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    said: str,
) -> None:
    """What EC2 refuses is told in one line that says what to do, and kept in the note."""
    refuse(fake, monkeypatch, code)
    job, content = fake.job(tiny_recipe)

    with pytest.raises(CloudError, match=said.replace("(", r"\(")) as caught:
        fake.cloud.submit(job, content)
    assert "\n" not in str(caught.value)
    assert fake.notes.find(job.name).state == "ended"


def test_price_above_the_cap_is_refused(
    fake: FakeCloud, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine dearer than the cap is not asked for; the line says what would do."""
    offers = [ec2.Offer("c6i.large", "us-east-1a", 0.5)]
    monkeypatch.setattr(fake.cloud, "offers", lambda types: offers)

    with pytest.raises(CloudError, match=r"above the cap of .* `--max-dollars 0.3` would do"):
        fake.cloud.submit(*fake.job(tiny_recipe, dollars=0.1))


def test_missing_parts_get_one_line(monkeypatch: pytest.MonkeyPatch, fake: FakeCloud) -> None:
    """No credentials, no region and no public image each get their line."""
    monkeypatch.setattr(ec2, "IMAGE_PARAMETER", "/aws/service/none")
    with pytest.raises(CloudError, match="no public image parameter"):
        fake.cloud._image()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(CloudError, match="No AWS credentials are set up"):
        Cloud(fake.notes, fake.store, "us-east-1").sweep()
    with pytest.raises(CloudError, match="No AWS region is set"):
        Cloud(fake.notes, fake.store)


def test_group_lets_nothing_in(fake: FakeCloud, tiny_recipe: Recipe) -> None:
    """The machine's security group has no rule for what comes in, and is made once."""
    job = fake.cloud.submit(*fake.job(tiny_recipe))
    again = fake.cloud._group("")
    groups = fake.client.describe_security_groups(GroupIds=[again])["SecurityGroups"]
    fake.cloud.stop(job)

    assert groups[0]["IpPermissions"] == []
    assert again == fake.cloud._group("")
    fake.client.authorize_security_group_ingress(
        GroupId=again, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    with pytest.raises(CloudError, match="lets traffic in"):
        fake.cloud.submit(*fake.job(tiny_recipe))


def test_changed_results_are_refused(fake: FakeCloud, tiny_recipe: Recipe) -> None:
    """Results with another SHA-256 than the machine told do not reach the store."""
    job = fake.cloud.submit(*fake.job(tiny_recipe))
    s3 = fake.cloud._s3
    s3.put_object(Bucket=job.bucket, Key=job.key("results.tar.gz"), Body=b"something else")
    end = b'{"code": 0, "results_sha256": "' + b"0" * 64 + b'", "seconds": 60}'
    s3.put_object(Bucket=job.bucket, Key=job.key("end.json"), Body=end)

    with pytest.raises(CloudError, match="not what the machine sent"):
        fake.cloud.follow(job)
    fake.cloud.stop(job)


def test_policy_names_every_action_that_is_used() -> None:
    """The least policy allows each act that a line of ours can say is missing."""
    import inspect
    import re

    used = set(re.findall(r'_one_line\("([a-z0-9]+:[A-Za-z]+)"\)', inspect.getsource(ec2)))
    plain = [s["Action"] for s in policy()["Statement"]]
    allowed = {a for acts in plain for a in ([acts] if isinstance(acts, str) else acts)}

    assert used
    assert used <= allowed
