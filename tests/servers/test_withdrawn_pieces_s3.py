"""Nothing of withdrawn pieces can be had from a bucket that keeps versions; what cannot be removed is said."""

import uuid

import pytest
from botocore.exceptions import ClientError
from botocore.session import Session

from orchestrion.cli.main import main
from orchestrion.storage import bucket
from orchestrion.storage.object_store import Objects
from tests.ingress_app import Service
from tests.servers.seaweedfs import options_argument
from tests.withdrawn_pieces import WithdrawnPieces


@pytest.fixture(scope="module")
def client(s3_server):
    return Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.key,
        aws_secret_access_key=s3_server.secret,
    )


@pytest.fixture(scope="module")
def versioned(client):
    """The name of an empty bucket that keeps versions."""
    name = f"versions-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def versions_in(client, bucket, prefix=""):
    """Key and id of every version, and of every mark of a deletion."""
    pages = list(client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix))
    return (
        [(each["Key"], each["VersionId"]) for page in pages for each in page.get("Versions", ())],
        [(each["Key"], each["VersionId"]) for page in pages for each in page.get("DeleteMarkers", ())],
    )


class TestVersionedBucket(WithdrawnPieces):
    @pytest.fixture(scope="class")
    def place(self, versioned, s3_server):
        return {"store_url": f"s3://{versioned}/tracks", "storage_options": s3_server.storage_options}

    @pytest.fixture(scope="class", autouse=True)
    def _at(self, request, client, versioned):
        request.cls.client, request.cls.bucket = client, versioned

    def all_bytes(self, made):
        versions, marks = versions_in(self.client, self.bucket)
        assert versions and not [key for key, _ in marks if "/blobs/" in key]
        return [
            self.client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"].read()
            for key, version in versions
        ]


class TestBucket(WithdrawnPieces):
    """One that keeps none."""

    @pytest.fixture(scope="class")
    def place(self, s3_server):
        return {"store_url": s3_server.new_url(), "storage_options": s3_server.storage_options}

    def all_bytes(self, made):
        config = made.service.config
        objects = Objects(config.store_url, config.storage_options)
        keys = [key for folder in ("blobs", "tracks", "pieces", "index") for key in objects.keys(folder)]
        assert keys
        return [objects.read(key) for key in keys]


def test_versions_that_an_earlier_deletion_left_are_removed_too(client, versioned, s3_server):
    objects = Objects(f"s3://{versioned}/purge", s3_server.storage_options)
    for data in (b"first", b"second"):
        objects.replace("blobs/aa/x", data)
    objects.replace("blobs/aa/x2", b"another, whose name begins with the same")
    objects.delete("blobs/aa/x")

    purged = objects.purge("blobs/aa/x")

    assert (purged.was_there, purged.left, purged.unknown) == (True, (), "")
    versions, marks = versions_in(client, versioned, "purge/")
    assert ([key for key, _ in versions], marks) == (["purge/blobs/aa/x2"], [])
    assert not objects.purge("blobs/aa/x").was_there


@pytest.fixture
def refused(monkeypatch):
    """Has the server refuse some calls, as with credentials that may not do them."""

    def refuse(operation, when):
        def denied(params, **_):
            if when(params):
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, operation)

        def with_less(*arguments):
            made = make(*arguments)
            made.meta.events.register(f"provide-client-params.s3.{operation}", denied)
            return made

        make = bucket._client
        monkeypatch.setattr(bucket, "_client", with_less)

    return refuse


def takedown(folder, url, s3_server, track_id):
    options = options_argument(s3_server.storage_options, folder)
    arguments = ["--store", url, "--signing-key", str(folder / "key.pem"), "--storage-options", options]
    return main(["takedown", *arguments, "--reason", "x", "--actor", "y", track_id])


@pytest.mark.parametrize(
    "operation, when, said",
    [
        ("DeleteObject", lambda params: "VersionId" in params, "?versionId="),
        ("ListObjectVersions", lambda params: True, "perhaps; versions of the bucket's objects cannot be listed"),
    ],
)
def test_what_stays_readable_is_said_precisely_and_goes_when_it_may(
    client, versioned, s3_server, tmp_path, capsys, refused, monkeypatch, operation, when, said
):
    url = f"s3://{versioned}/{uuid.uuid4().hex[:8]}"
    service = Service(tmp_path, store_url=url, storage_options=s3_server.storage_options)
    track = service.make()
    refused(operation, when)
    assert takedown(tmp_path, url, s3_server, track["id"]) == 1
    monkeypatch.undo()
    told = capsys.readouterr().err
    assert "STILL READABLE" in told and said in told
    prefix = url.removeprefix(f"s3://{versioned}/")
    left = [(key, version) for key, version in versions_in(client, versioned, f"{prefix}/blobs/")[0]]
    assert len(left) == 2
    for key, version in left:
        if operation == "DeleteObject":
            assert f"{key.removeprefix(prefix + '/')}?versionId={version} (" in told
        else:
            assert f"{key.removeprefix(prefix + '/')}: perhaps" in told

    assert takedown(tmp_path, url, s3_server, track["id"]) == 0
    assert versions_in(client, versioned, f"{prefix}/blobs/") == ([], [])
