"""A job in, its results in the store: machines asked for, followed, fetched from and ended.

Three ends hold the cap, each for itself: the price per hour that EC2 enforces, the machine's
own `shutdown` set before it does anything else, and the tag with the time after which every
later call of ours ends what still lives.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from smidgen.cloud.bundle import user_data
from smidgen.cloud.rental import GRACE_MINUTES, CloudJob, Notes, arithmetic, price_cap
from smidgen.errors import CloudError, RunError
from smidgen.extras import require
from smidgen.runs.parcel import unpack
from smidgen.runs.store import RunFolder, RunStore

JOB_TAG, ENDS_TAG = "smidgen:job", "smidgen:ends"
IMAGE_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
GROUP = "smidgen-closed"
INSTANCE_TYPES = ("c7i.large", "c6i.large", "c7a.large", "c6a.large", "m6i.large", "m5.large")
"""Two threads, AVX2 and FMA or better; the cheapest of the moment is taken."""

REMEMBERED_SECONDS = 45 * 60.0
"""EC2 lists a machine for about an hour after its end; later nobody knows whether there was one,
and its whole time is charged to the job."""

MOST_MACHINES = 8
"""A job whose machines vanish this often has another fault than its price."""

ALIVE = ("pending", "running", "shutting-down", "stopping", "stopped")
SPOT_NOTICE_CODE = 75
POLL_SECONDS = 10.0
QUOTA = "`https://console.aws.amazon.com/servicequotas` (All Standard Spot Instance Requests)"

_TRY_ELSEWHERE = (
    "InsufficientInstanceCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
    "InsufficientFreeAddressesInSubnet",
)
_SAID = {
    "ExpiredToken": "The AWS credentials have expired. Sign in again (`aws sso login`).",
    "ExpiredTokenException": "The AWS credentials have expired. Sign in again (`aws sso login`).",
    "RequestExpired": "The AWS credentials have expired, or this machine's clock is wrong.",
    "InvalidClientTokenId": "AWS does not know these credentials. Check `aws configure list`.",
    "AuthFailure": "AWS does not accept these credentials. Check `aws configure list`.",
    "SignatureDoesNotMatch": "AWS does not accept these credentials: the secret key is wrong.",
    "VPCIdNotSpecified": "The account has no default network in this region. "
    "`aws ec2 create-default-vpc` makes one, or name one by `--subnet`.",
    "MissingInput": "The account has no default network in this region. "
    "`aws ec2 create-default-vpc` makes one, or name one by `--subnet`.",
    "MaxSpotInstanceCountExceeded": "The account's quota of spot machines is used up. "
    f"Raise it at {QUOTA}.",
    "VcpuLimitExceeded": "The account's quota, which counts processors, is used up. "
    f"Raise it at {QUOTA}.",
    "ParameterNotFound": "This region has no public image parameter. "
    "Name an image by `--image ami-...`.",
    "NoSuchBucket": "The bucket is not there. Name another by `--bucket`.",
    "AccessDenied": "The bucket may not be used with these credentials. "
    "`smidgen cloud policy` prints what is needed.",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What a machine costs now: dollars an hour, without address and disk."""

    instance_type: str
    zone: str
    price: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a machine of a job ended: its script's exit code, None if it never told one."""

    code: int | None
    seconds: float
    results_sha256: str


Tell = Callable[[str], None]


class Cloud:
    """Machines of one account and region.

    Args:
        notes: Where jobs are written down.
        store: Where results shall stand.
        region: Empty: that of the user's AWS settings.
        tell: Told, in a line each, what happens.

    Raises:
        CloudError: boto3 is missing, no region is set, or what AWS says, in one line.
    """

    def __init__(
        self, notes: Notes, store: RunStore, region: str = "", tell: Tell = lambda line: None
    ) -> None:
        self._notes, self._store, self._tell = notes, store, tell
        self._session = _session(region)
        self.region: str = self._session.region_name or ""
        if not self.region:
            raise CloudError("No AWS region is set. Name one by `--region`, such as eu-central-1.")

    def offers(self, instance_types: tuple[str, ...]) -> list[Offer]:
        """Return the newest spot price of each type and zone, cheapest first."""
        with _one_line("ec2:DescribeSpotPriceHistory"):
            answer = self._ec2.describe_spot_price_history(
                InstanceTypes=list(instance_types),
                ProductDescriptions=["Linux/UNIX"],
                StartTime=time.time(),
            )
        newest: dict[tuple[str, str], tuple[Any, float]] = {}
        for row in answer["SpotPriceHistory"]:
            key, price = (row["InstanceType"], row["AvailabilityZone"]), float(row["SpotPrice"])
            if key not in newest or newest[key][0] < row["Timestamp"]:
                newest[key] = (row["Timestamp"], price)
        found = [Offer(kind, zone, price) for (kind, zone), (_, price) in newest.items()]
        return sorted(found, key=lambda offer: (offer.price, offer.instance_type, offer.zone))

    def submit(self, job: CloudJob, content: bytes) -> CloudJob:
        """Upload a job's input, write the note, and ask for the first machine.

        Raises:
            CloudError: As AWS says, in one line; then nothing runs.
        """
        self.sweep()
        job = job.replace(bucket=job.bucket or self._own_bucket())
        with _one_line("s3:PutObject"):
            self._s3.put_object(Bucket=job.bucket, Key=job.key("input.tar.gz"), Body=content)
        job = job.replace(input_sha256=_sha256(content), region=self.region)
        return self.launch(self._notes.save(job))

    def launch(self, job: CloudJob) -> CloudJob:
        """Ask for a machine with what is left of the job's time and money.

        A machine of this job that already lives is taken over instead: the note may be older
        than what a killed driver did.

        Raises:
            CloudError: None can be had; the job's note says so.
        """
        living = self._machines(job.name)
        if living:
            return self._adopt(job, living[0])
        if job.attempt >= MOST_MACHINES:
            raise self._refused(job, f"{job.attempt} machines were lost. Try another region.")
        cap = price_cap(job.dollars_left, job.minutes_left)
        offers = [offer for offer in self.offers(job.instance_types) if offer.price <= cap]
        if not offers:
            raise self._refused(job, self._too_dear(job, cap))
        now = time.time()
        ends = now + (job.minutes_left + GRACE_MINUTES) * 60
        job = job.replace(
            attempt=job.attempt + 1, max_price=cap, launched=now, ends=ends, is_charged=False
        )
        said = ""
        for offer in offers:
            trying = self._notes.save(job.replace(state="launching", zone=offer.zone, instance=""))
            try:
                made = self._run_instance(trying, offer)
            except CloudError as error:
                if getattr(error.__cause__, "code_name", "") not in _TRY_ELSEWHERE:
                    raise self._refused(trying, str(error)) from error
                said = str(error)
                continue
            self._tell(
                f"{offer.instance_type} in {offer.zone} at {offer.price:.4f} dollars an hour, "
                f"cap {cap:.4f}: {made['InstanceId']}"
            )
            return self._adopt(trying, made)
        raise self._refused(job, f"No zone has a machine free: {said}")

    def follow(self, job: CloudJob, wait: bool = True) -> tuple[CloudJob, list[RunFolder]]:
        """Wait for a job's end, launching again after a spot notice, and fetch its runs.

        Args:
            job: From `submit`, or from a note.
            wait: Whether to wait; else what there is now is fetched.

        Returns:
            The job and its runs here, finished or not.

        Raises:
            CloudError: A machine failed, or no further one can be had; what it gave is fetched.
        """
        while True:
            job = self._seen(job)
            ended = self._end_of(job) if job.state == "running" else None
            if job.state == "running" and ended is None and wait:
                time.sleep(POLL_SECONDS)
                continue
            job, runs = self._fetch(job, ended)
            if job.state == "running" and ended is None:
                return job, runs
            if job.state == "ended":
                return job, runs
            assert ended is not None
            job = self._close_machine(job, ended)
            if not self._goes_on(ended) or job.minutes_left < 1:
                return self._ended(job, ended), runs
            self._tell(f"EC2 took the machine back; {job.minutes_left} minutes are left.")
            job = self.launch(job)

    def stop(self, job: CloudJob) -> CloudJob:
        """End a job's machines now."""
        self._terminate([machine["InstanceId"] for machine in self._machines(job.name)])
        return self._notes.save(job.replace(state="ended", outcome=job.outcome or "stopped"))

    def sweep(self) -> list[str]:
        """End every machine of ours whose time is over; return their names."""
        over = []
        for machine in self._machines():
            ends = _tags(machine).get(ENDS_TAG, "")
            if ends.isdigit() and int(ends) < time.time():
                over.append(machine["InstanceId"])
        self._terminate(over)
        for name in over:
            self._tell(f"{name} was past its end and is ended.")
        return over

    def machines(self) -> list[tuple[str, str, str]]:
        """Return (machine, job, state) of every machine of ours that is not gone."""
        return [
            (m["InstanceId"], _tags(m).get(JOB_TAG, ""), m["State"]["Name"])
            for m in self._machines()
        ]

    # -- machines

    def _run_instance(self, job: CloudJob, offer: Offer) -> dict[str, Any]:
        request = instance_request(
            job, offer, job.image or self._image(), self._group(job.subnet), self._urls(job)
        )
        with _one_line("ec2:RunInstances"):
            return self._ec2.run_instances(**request)["Instances"][0]

    def _machines(self, name: str = "", states: tuple[str, ...] = ALIVE) -> list[dict[str, Any]]:
        tag = {"Name": f"tag:{JOB_TAG}", "Values": [name or "*"]}
        state = {"Name": "instance-state-name", "Values": list(states)}
        with _one_line("ec2:DescribeInstances"):
            pages = self._ec2.get_paginator("describe_instances").paginate(Filters=[tag, state])
            return [m for page in pages for r in page["Reservations"] for m in r["Instances"]]

    def _adopt(self, job: CloudJob, machine: dict[str, Any]) -> CloudJob:
        ends = _tags(machine).get(ENDS_TAG, "")
        return self._notes.save(
            job.replace(
                state="running",
                instance=machine["InstanceId"],
                zone=machine.get("Placement", {}).get("AvailabilityZone", job.zone),
                ends=float(ends) if ends.isdigit() else job.ends,
            )
        )

    def _seen(self, job: CloudJob) -> CloudJob:
        """Return the job with what a killed driver did not get to write down."""
        if job.state not in ("planned", "launching"):
            return job
        living = self._machines(job.name)
        if living:
            return self._adopt(job, living[0])
        began = job.attempt > 0 and not job.is_charged
        forgotten = time.time() - job.launched > REMEMBERED_SECONDS
        if began and (
            forgotten
            or self._machines(job.name, ("terminated",))
            or self._object(job, "end.json") is not None
        ):
            return self._notes.save(job.replace(state="running"))  # it was, and is charged
        return self.launch(job)

    def _end_of(self, job: CloudJob) -> Ended | None:
        """Return how the machine ended, or None while it works."""
        told = self._object(job, "end.json")
        if told is not None:
            return _ended_from(told)
        if self._machines(job.name):
            if time.time() > job.ends:
                self._terminate([job.instance])
            return None
        told = self._object(job, "end.json")  # it may have written between the two looks
        return _ended_from(told) if told is not None else Ended(None, 0.0, "")

    @staticmethod
    def _goes_on(ended: Ended) -> bool:
        return ended.code in (SPOT_NOTICE_CODE, None)

    def _close_machine(self, job: CloudJob, ended: Ended) -> CloudJob:
        """Charge a machine's life and clear its end; nothing of it is left running."""
        self._terminate([machine["InstanceId"] for machine in self._machines(job.name)])
        lived = min(time.time(), job.ends) - job.launched
        job = job.after(max(lived, ended.seconds)).replace(state="launching", instance="")
        self._notes.save(job.replace(is_charged=True))
        with _one_line("s3:DeleteObject"):
            self._s3.delete_object(Bucket=job.bucket, Key=job.key("end.json"))
        return job.replace(is_charged=True)

    def _ended(self, job: CloudJob, ended: Ended) -> CloudJob:
        outcome = "done" if ended.code == 0 else _why(ended.code)
        job = self._notes.save(job.replace(state="ended", outcome=outcome))
        log = self._object(job, "log.txt") or b""
        if ended.code == 0:
            return job
        last = log.decode(errors="replace").strip().splitlines()[-2:-1]
        shown = "".join(c for c in " ".join(last) if c.isprintable())[:200]
        raise CloudError(
            f"The job `{job.name}` ended: {outcome}." + (f" Its log says: {shown}" if shown else "")
        )

    def _terminate(self, names: list[str]) -> None:
        if names:
            with _one_line("ec2:TerminateInstances"):
                self._ec2.terminate_instances(InstanceIds=names)

    def _refused(self, job: CloudJob, said: str) -> CloudError:
        self._notes.save(job.replace(state="ended", outcome=said))
        return CloudError(said)

    def _too_dear(self, job: CloudJob, cap: float) -> str:
        cheapest = min(self.offers(job.instance_types), key=lambda o: o.price, default=None)
        if cheapest is None:
            return f"EC2 offers none of {', '.join(job.instance_types)} in {self.region}."
        hours = (job.minutes_left + GRACE_MINUTES) / 60
        need = math.ceil((cheapest.price + 0.006) * hours * 100) / 100
        return (
            f"The cheapest machine, {cheapest.instance_type} in {cheapest.zone}, costs "
            f"{cheapest.price:.4f} dollars an hour, above the cap of {cap:.4f}. "
            f"`--max-dollars {need:g}` would do."
        )

    # -- what surrounds a machine

    def _image(self) -> str:
        with _one_line("ssm:GetParameter"):
            return self._ssm.get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]

    def _group(self, subnet: str) -> str:
        """Return a security group that lets nothing in, made once."""
        filters = [{"Name": "group-name", "Values": [GROUP]}]
        where: dict[str, str] = {}
        with _one_line("ec2:CreateSecurityGroup"):
            if subnet:
                found = self._ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]
                where = {"VpcId": found["VpcId"]}
            else:
                default = [{"Name": "is-default", "Values": ["true"]}]
                vpcs = self._ec2.describe_vpcs(Filters=default)["Vpcs"]
                if not vpcs:
                    raise CloudError(_SAID["VPCIdNotSpecified"])
                where = {"VpcId": vpcs[0]["VpcId"]}
            filters.append({"Name": "vpc-id", "Values": [where["VpcId"]]})
            groups = self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
            if groups:
                if groups[0]["IpPermissions"]:
                    raise CloudError(
                        f"The security group `{GROUP}` lets traffic in. Remove its rules."
                    )
                return groups[0]["GroupId"]
            words = "smidgen: nothing comes in"
            return self._ec2.create_security_group(GroupName=GROUP, Description=words, **where)[
                "GroupId"
            ]

    def _own_bucket(self) -> str:
        with _one_line("s3:CreateBucket"):
            account = self._sts.get_caller_identity()["Account"]
            name = f"smidgen-{account}-{self.region}"
            if name not in [b["Name"] for b in self._s3.list_buckets()["Buckets"]]:
                place = {"LocationConstraint": self.region}
                own = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": place}
                self._s3.create_bucket(Bucket=name, **own)
            return name

    def _urls(self, job: CloudJob) -> dict[str, str]:
        """Return the presigned addresses of a machine, alive as long as it may live."""
        lasts = (job.minutes_left + GRACE_MINUTES + 5) * 60
        self._check_credentials(lasts)
        files = {
            "input": ("get_object", "input.tar.gz"),
            "results": ("put_object", "results.tar.gz"),
            "log": ("put_object", "log.txt"),
            "end": ("put_object", "end.json"),
        }
        if job.results_sha256:
            files["previous"] = ("get_object", "results.tar.gz")
        return {
            what: self._s3.generate_presigned_url(
                act, Params={"Bucket": job.bucket, "Key": job.key(file)}, ExpiresIn=lasts
            )
            for what, (act, file) in files.items()
        }

    def _check_credentials(self, lasts: float) -> None:
        """Refuse temporary credentials that end before the machine: its addresses would, too."""
        credentials = self._session.get_credentials()
        until = getattr(credentials, "_expiry_time", None)
        if until is not None and until.timestamp() < time.time() + lasts:
            left = max(0, round((until.timestamp() - time.time()) / 60))
            raise CloudError(
                f"The AWS credentials end in {left} minutes and the machine may live for "
                f"{round(lasts / 60)}. Sign in again, or give fewer `--minutes`."
            )

    def _fetch(self, job: CloudJob, ended: Ended | None) -> tuple[CloudJob, list[RunFolder]]:
        content = self._object(job, "results.tar.gz")
        if content is None:
            return job, []
        told = ended.results_sha256 if ended else ""
        if told and _sha256(content) != told:
            raise CloudError(
                f"The results of `{job.name}` are not what the machine sent: another SHA-256. "
                f"`smidgen cloud fetch {job.name}` tries again."
            )
        try:
            runs = unpack(content, self._store)
        except RunError as error:
            raise CloudError(f"The results of `{job.name}` cannot be used: {error}") from error
        return self._notes.save(job.replace(results_sha256=_sha256(content))), runs

    def _object(self, job: CloudJob, what: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with _one_line("s3:GetObject"):
            try:
                return self._s3.get_object(Bucket=job.bucket, Key=job.key(what))["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return None
                raise

    @cached_property
    def _ec2(self) -> Any:
        return self._session.client("ec2")

    @cached_property
    def _s3(self) -> Any:
        from botocore.config import Config

        # newer regions take no older signature, and addresses signed by it
        return self._session.client("s3", config=Config(signature_version="s3v4"))

    @cached_property
    def _ssm(self) -> Any:
        return self._session.client("ssm")

    @cached_property
    def _sts(self) -> Any:
        return self._session.client("sts")


def instance_request(
    job: CloudJob, offer: Offer, image: str, group: str, urls: dict[str, str]
) -> dict[str, Any]:
    """Return what EC2 is asked: one spot machine that ends by itself and lets nothing in."""
    token = hashlib.sha256(f"{job.name}/{job.attempt}/{offer}".encode()).hexdigest()[:32]
    tags = [
        {"Key": "Name", "Value": f"smidgen {job.title}"},
        {"Key": JOB_TAG, "Value": job.name},
        {"Key": ENDS_TAG, "Value": str(math.ceil(job.ends))},
    ]
    network: dict[str, Any] = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": True,
        "DeleteOnTermination": True,
        "Groups": [group],
    }
    if job.subnet:
        network["SubnetId"] = job.subnet
    return {
        "ClientToken": token,
        "ImageId": image,
        "InstanceType": offer.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"AvailabilityZone": offer.zone},
        "NetworkInterfaces": [network],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "InstanceMarketOptions": {
            "MarketType": "spot",
            "SpotOptions": {
                "MaxPrice": f"{job.max_price:.4f}",
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        },
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpEndpoint": "enabled",
        },
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
        "UserData": user_data(job, urls),
    }


def preview(job: CloudJob, content: bytes) -> str:
    """Return what a launch would ask for, with the script and the cap's arithmetic, as text.

    Nothing is asked of AWS: image, zone and addresses are placeholders.

    Raises:
        CloudError: The money buys no machine.
    """
    ends = time.time() + (job.minutes + GRACE_MINUTES) * 60
    cap = price_cap(job.max_dollars, job.minutes)
    job = job.replace(attempt=1, max_price=cap, ends=ends, input_sha256=_sha256(content))
    urls = {what: f"https://BUCKET/{job.key(what)}" for what in ("input", "results", "log", "end")}
    offer = Offer(job.instance_types[0], "ZONE", cap)
    request = instance_request(job, offer, job.image or "IMAGE", "GROUP", urls)
    script = request.pop("UserData")
    return "\n".join(
        [
            f"# {job.title}: input of {len(content) / 1e6:.1f} MB, any of "
            f"{', '.join(job.instance_types)}",
            f"# {arithmetic(job.max_dollars, job.minutes)}",
            "",
            json.dumps(request, indent=2),
            "",
            script,
        ]
    )


def policy(bucket: str = "smidgen-*") -> dict[str, Any]:
    """Return the least IAM policy that `smidgen cloud` needs."""
    ours = {"StringLike": {f"aws:ResourceTag/{JOB_TAG}": "*"}}
    look = [
        "ec2:DescribeInstances",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "ec2:RunInstances",
        "ec2:CreateTags",
        "ec2:CreateSecurityGroup",
        "sts:GetCallerIdentity",
        "s3:ListAllMyBuckets",
    ]
    objects = ["s3:CreateBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    buckets = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/smidgen/*"]
    parameter = f"arn:aws:ssm:*::parameter{IMAGE_PARAMETER}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": look, "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "ec2:TerminateInstances",
                "Resource": "*",
                "Condition": ours,
            },
            {"Effect": "Allow", "Action": objects, "Resource": buckets},
            {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": parameter},
        ],
    }


class _RefusalError(Exception):
    """What AWS said, with the name of its error."""

    def __init__(self, code_name: str) -> None:
        super().__init__(code_name)
        self.code_name = code_name


@contextlib.contextmanager
def _one_line(action: str) -> Iterator[None]:
    """Turn what boto3 raises into one line that says what to do.

    Raises:
        CloudError: In place of any error of boto3.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        raise CloudError(_said(code, error.response["Error"].get("Message", ""), action)) from (
            _RefusalError(code)
        )
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise CloudError(
            "No AWS credentials are set up. `aws configure` sets them up, or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except (exceptions.EndpointConnectionError, exceptions.HTTPClientError) as error:
        raise CloudError("AWS cannot be reached. Check the network and `--region`.") from error
    except exceptions.BotoCoreError as error:
        raise CloudError(f"AWS cannot be asked: {error}") from error


def _said(code: str, message: str, action: str) -> str:
    if code in ("UnauthorizedOperation", "AccessDeniedException"):
        return (
            f"These AWS credentials lack the right to {action}. `smidgen cloud policy` prints the "
            "least policy; whoever administers the account adds it."
        )
    if code in _SAID:
        return _SAID[code]
    return f"AWS refused {action}: {code}. {message[:300]}".rstrip()


def _session(region: str) -> Any:
    require("A rented machine needs", "boto3")
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        return boto3.Session(region_name=region or None)
    except ProfileNotFound as error:
        raise CloudError(f"{error}. `aws configure list-profiles` lists them.") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tags(machine: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}


def _ended_from(told: bytes) -> Ended:
    try:
        plain = json.loads(told)
        return Ended(int(plain["code"]), float(plain["seconds"]), str(plain["results_sha256"]))
    except (ValueError, KeyError, TypeError):
        return Ended(None, 0.0, "")


def _why(code: int | None) -> str:
    known = {
        None: "the machine ended without a word",
        70: "the machine could not get its input",
        71: "the input arrived damaged",
        72: "the machine could not install what smidgen needs",
        124: "the work took longer than its minutes and was stopped",
        137: "the work took longer than its minutes and was killed",
    }
    return known.get(code, f"smidgen ended with exit code {code}")
