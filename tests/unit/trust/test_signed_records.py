import base64
import hashlib
import json
import random
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.ledger.record_rows import RECORD_SCHEMA, arrow_type, from_row, to_row
from orchestrion.errors import InvalidRequest, VerificationFailed
from orchestrion.finding import Finding
from orchestrion.tracks.attestation import Attestation, Verdict
from orchestrion.tracks.record import RECORD_FIELDS, TrackRecord, caller_sha256, canonical_bytes, utc_timestamp
from orchestrion.tracks.section import Section
from orchestrion.trust.signature import key_id_of, load_trusted_keys, public_key_path
from orchestrion.trust.signed_record import SignedRecord, verify, verify_record
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import default_signing_key, have_signing_key, trusted_keys
from tests.older_records import as_of_version

DOCS = Path(__file__).resolve().parents[3] / "docs" / "records.md"
AUDIO = b"RIFF" + bytes(range(256)) * 4

RECORD = TrackRecord(
    schema_version=5,
    track_id="trk_" + "a" * 32,
    version=1,
    piece_id="pce_" + "c" * 32,
    created_at="2026-11-22T15:50:00.123456+00:00",
    prompt="slow sad piano, «très doux» 🎹",
    negative_prompt="",
    style=None,
    mood="sad",
    tempo_bpm=70.0,
    key="D minor",
    duration_s=20.0,
    seed=2**53 - 1,
    theme=None,
    continuation="sha256:" + "b" * 64,
    guidance=3.5,
    temperature=0.0,
    top_k=250,
    top_p=None,
    exclude=("drums", "vocals"),
    instruments=("cello", "binioù"),
    ensemble="duo",
    metre="7/8",
    sections=(Section("intro", 8.0), Section("part a", bars=16), Section("outro")),
    bars=24,
    loop=True,
    tempo_end_bpm=90.5,
    key_end="A harmonic minor",
    energy="low",
    dynamics="crescendo",
    model="composer",
    format="flac",
    sample_rate_hz=44_100,
    loudness_lufs=-14.0,
    fade_in_s=0.0,
    fade_out_s=1.5,
    channels=1,
    requester="eve@example.org",
    purpose="commercial",
    caller_salt="5" * 32,
    caller_sha256=caller_sha256("eve@example.org", "commercial", "5" * 32),
    prompt_sha256=hashlib.sha256("slow sad piano, «très doux» 🎹".encode()).hexdigest(),
    model_revision="0123abcd",
    weights_licence="MIT",
    commercial_use=True,
    recipe_version="1",
    code_version="0.1.0",
    intent='{"readings":[],"languages":["en"]}',
    choices={"style": "ambient", "form": "A A B A"},
    node_id="vm-1",
    node_type="local-cpu",
    device="cpu-core",
    market="on-demand",
    pool="batch",
    batch_size=4,
    piece_reused=False,
    generate_s=1.0000000000000002,
    finish_s=0.2,
    check_s=0.1,
    encode_s=0.05,
    store_s=0.01,
    device_seconds=1.36,
    price_usd_per_device_hour=0.02,
    price_source="the invoice (as of 2026-01-31)",
    cost_usd=7.5e-06,
    audio_key="blobs/aa/x.flac",
    audio_sha256=hashlib.sha256(AUDIO).hexdigest(),
    audio_bytes=len(AUDIO),
    midi_key=None,
    midi_sha256=None,
    measured_loudness_lufs=-14.02,
    measured_true_peak_dbtp=-1.3,
    findings=(
        Finding("true peak", -1.3, None, -1.0, "dBTP", True),
        Finding("length", 882_000.0, 881_999.0, 882_001.0, "samples", True),
    ),
    attestations=(
        Attestation("admit", Verdict.ALLOW, None, None, "MIT"),
        Attestation("quality", Verdict.ALLOW, 0.0, 0.0, "findings"),
    ),
)
NEW_IN_VERSION_2 = {"continuation", "guidance", "temperature", "top_k", "top_p"}
NEW_IN_VERSION_4 = {"piece_id", "caller_salt", "caller_sha256", "piece_reused", "attestations"}
NEW_IN_VERSION_5 = {
    *("exclude", "instruments", "ensemble", "metre", "sections", "bars", "loop"),
    *("tempo_end_bpm", "key_end", "energy", "dynamics", "channels", "intent"),
}
NEW_SINCE_VERSION_1 = {*NEW_IN_VERSION_2, "version", *NEW_IN_VERSION_4, *NEW_IN_VERSION_5}
BARE = replace(
    RECORD,
    **dict.fromkeys(NEW_IN_VERSION_2 | NEW_IN_VERSION_5),
    style="rock",
    mood=None,
    tempo_bpm=None,
    key=None,
    choices={},
    findings=(),
    attestations=(),
    midi_key="m",
)

VERSION_4 = as_of_version(RECORD, 4)
VERSION_3 = as_of_version(RECORD, 3)
VERSION_1 = as_of_version(RECORD, 1)

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
TRUSTED = {SIGNER.key_id: serialization.load_pem_public_key(SIGNER.public_pem)}
ENVELOPE = SIGNER.sign(RECORD).to_bytes()


def check_bytes(envelope, audio=AUDIO, trusted=TRUSTED):
    verify(SignedRecord.from_bytes(envelope), audio, trusted)


def test_a_record_comes_back_from_parquet_as_it_was(tmp_path):
    records = [RECORD, BARE]

    pq.write_table(
        pa.Table.from_pylist([to_row(r) for r in records], schema=RECORD_SCHEMA), tmp_path / "tracks.parquet"
    )

    table = pq.read_table(tmp_path / "tracks.parquet")
    assert [from_row(row) for row in table.to_pylist()] == records
    assert table.schema.equals(RECORD_SCHEMA, check_metadata=False)
    described = {f.name: f.metadata[b"description"].decode() for f in table.schema}
    assert described == {field.name: field.description for field in RECORD_FIELDS}


def test_a_record_comes_back_from_its_envelope_as_it_was():
    for record in (RECORD, BARE, RECORD.without_caller(), VERSION_4, VERSION_3, VERSION_1):
        assert SignedRecord.from_bytes(SIGNER.sign(record).to_bytes()).record == record


@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    seconds=st.floats(0, 1e6, allow_nan=False),
    seed=st.integers(0, 2**53 - 1),
    choices=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.just("x"), max_size=3),
)
def test_any_record_survives_json_and_arrow(prompt, seconds, seed, choices):
    record = replace(RECORD, prompt=prompt, generate_s=seconds, seed=seed, choices=choices)

    assert SignedRecord.from_bytes(SIGNER.sign(record).to_bytes()).record == record
    table = pa.Table.from_pylist([to_row(record)], schema=RECORD_SCHEMA)
    assert from_row(table.to_pylist()[0]) == record


def test_times_are_written_one_way():
    moment = datetime(2026, 11, 22, 17, 50, 0, 120, tzinfo=timezone(timedelta(hours=2)))

    assert utc_timestamp(moment) == "2026-11-22T15:50:00.000120+00:00"
    assert utc_timestamp(moment.astimezone(UTC)) == utc_timestamp(moment)


@pytest.mark.parametrize(
    "change",
    [
        {"cost_usd": float("nan")},
        {"measured_loudness_lufs": float("-inf")},
        {"duration_s": "20"},
        {"seed": 1.0},
        {"commercial_use": np.bool_(True)},
        {"model": None},
        {"choices": {"tempo": 70.0}},
        {"created_at": "2026-11-22T15:50:00Z"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_record_that_could_not_be_read_back_is_never_made(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(RECORD, **change)


def test_the_signed_bytes_are_rfc_8785_json_of_the_record():
    signed = json.loads(ENVELOPE)

    assert canonical_bytes(RECORD) == rfc8785.dumps(signed["record"])
    # It can be checked with the two standards alone.
    public = SIGNER._private_key.public_key()
    public.verify(base64.b64decode(signed["signature"]["value"]), rfc8785.dumps(signed["record"]))
    assert signed["signature"]["key_id"] == hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def test_what_was_signed_verifies():
    check_bytes(ENVELOPE)


def envelope_with(change):
    envelope = json.loads(ENVELOPE)
    change(envelope)
    return rfc8785.dumps(envelope)


# Records of earlier releases


def test_a_record_of_version_1_verifies_byte_for_byte_as_it_was_signed():
    record = json.loads(SIGNER.sign(VERSION_3).to_bytes())["record"]
    record = {name: value for name, value in record.items() if name not in NEW_SINCE_VERSION_1}
    signature = json.loads(ENVELOPE)["signature"]
    record["schema_version"] = 1
    signature["value"] = base64.b64encode(SIGNER._private_key.sign(rfc8785.dumps(record))).decode()
    envelope = rfc8785.dumps({"record": record, "signature": signature})

    # What release 0.1.0 wrote.
    assert hashlib.sha256(envelope).hexdigest() == ("5fae567bd92c0e3d9fb8ad92311bfef94162f8d3924d37d8278c3d8cec234549")
    check_bytes(envelope)
    assert SignedRecord.from_bytes(envelope).record == VERSION_1
    assert SIGNER.sign(VERSION_1).to_bytes() == envelope


def test_a_record_of_version_3_is_signed_with_its_caller_as_it_was():
    envelope = SIGNER.sign(VERSION_3).to_bytes()

    # What the code before version 4 wrote.
    assert hashlib.sha256(envelope).hexdigest() == "595eb72a702a6d8401e87385bf393252470b76a76a4b9ecdcdc40f8c03e12903"
    check_bytes(envelope)
    assert VERSION_3.without_caller() == VERSION_3


def test_a_record_of_version_4_is_signed_as_it_was():
    envelope = SIGNER.sign(VERSION_4).to_bytes()

    # What the code before version 5 wrote.
    assert hashlib.sha256(envelope).hexdigest() == "b424436923bd46f7f62f2f66458324b85714c91add1b9bdb167870df88c69b88"
    check_bytes(envelope)
    assert SignedRecord.from_bytes(envelope).record == VERSION_4


def test_a_row_of_version_1_is_read_with_the_later_columns_and_without_them():
    row = to_row(VERSION_1)

    assert from_row(row) == VERSION_1
    assert from_row({name: value for name, value in row.items() if name not in NEW_SINCE_VERSION_1}) == VERSION_1


def test_a_ledger_of_two_releases_reads_as_one(tmp_path):
    older = pa.Table.from_pylist([to_row(VERSION_1)], schema=RECORD_SCHEMA).drop_columns(sorted(NEW_SINCE_VERSION_1))
    pq.write_table(older, tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist([to_row(RECORD)], schema=RECORD_SCHEMA), tmp_path / "b.parquet")

    rows = ds.dataset(tmp_path, RECORD_SCHEMA).to_table().to_pylist()

    assert [from_row(row) for row in rows] == [VERSION_1, RECORD]


def test_a_record_cannot_claim_a_version_to_leave_a_field_unsigned():
    with pytest.raises(ValueError, match="version 1 has no field guidance"):
        replace(VERSION_1, guidance=3.0)


@pytest.mark.parametrize("name", sorted(NEW_IN_VERSION_4 - {"caller_salt"}))
def test_a_record_of_this_version_is_never_without_what_came_with_it(name):
    with pytest.raises(ValueError, match=f"version 5 is never without {name}"):
        replace(RECORD, **{name: None})


# Who asked first


def test_a_record_that_does_not_say_who_asked_verifies_all_the_same():
    public = SIGNER.sign(RECORD).without_caller()

    check_bytes(public.to_bytes())
    assert public.record.requester is public.record.purpose is public.record.caller_salt is None
    for secret in (b"eve", b'commercial"', RECORD.caller_salt.encode()):
        assert secret in ENVELOPE and secret not in public.to_bytes()
    assert from_row(to_row(public.record)) == public.record


def test_the_same_caller_cannot_be_told_from_two_records():
    other = replace(
        RECORD, caller_salt="6" * 32, caller_sha256=caller_sha256("eve@example.org", "commercial", "6" * 32)
    )

    assert other.requester == RECORD.requester and other.caller_sha256 != RECORD.caller_sha256


@pytest.mark.parametrize(
    "change",
    [{"requester": "mallory"}, {"purpose": "research"}, {"caller_salt": "6" * 32}, {"requester": None}],
    ids=lambda change: next(iter(change)),
)
def test_nobody_else_can_be_shown_as_the_caller(change):
    with pytest.raises(ValueError, match="are not those of caller_sha256"):
        replace(RECORD, **change)
    with pytest.raises(VerificationFailed, match=r"are not those of caller_sha256|is not text"):
        SignedRecord.from_bytes(envelope_with(lambda e: e["caller"].update(change)))


def test_a_record_of_an_earlier_version_says_who_asked():
    with pytest.raises(ValueError, match="a record of version 3 says who asked"):
        replace(VERSION_3, requester=None)


@pytest.mark.parametrize("version", [None, 0, -1])
def test_records_of_a_track_are_counted_from_1(version):
    with pytest.raises(ValueError, match="counted from 1"):
        replace(RECORD, version=version)


@pytest.mark.parametrize("version", [0, 6, -1])
def test_a_version_that_is_not_known_is_refused_with_the_remedy(version):
    with pytest.raises(VerificationFailed, match=f"schema_version is {version}, this release knows 1 to 5"):
        SignedRecord.from_bytes(envelope_with(lambda e: e["record"].update(schema_version=version)))


def test_no_byte_of_an_envelope_can_be_changed():
    survived = []
    for position in range(len(ENVELOPE)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(ENVELOPE)
            changed[position] ^= flip
            try:
                check_bytes(bytes(changed))
            except VerificationFailed:
                continue
            survived.append((position, flip))

    assert survived == []


def test_no_byte_of_an_envelope_can_be_dropped_or_doubled():
    for position in range(0, len(ENVELOPE), 3):
        for changed in (
            ENVELOPE[:position] + ENVELOPE[position + 1 :],
            ENVELOPE[:position] + ENVELOPE[position : position + 1] + ENVELOPE[position:],
        ):
            # Dropping one of two equal neighbours and the like still changes the bytes.
            with pytest.raises(VerificationFailed):
                check_bytes(changed)


def test_no_byte_of_the_audio_can_be_changed():
    for position in random.Random(1).sample(range(len(AUDIO)), 100):
        changed = bytearray(AUDIO)
        changed[position] ^= 0x10
        with pytest.raises(VerificationFailed, match="audio's SHA-256"):
            check_bytes(ENVELOPE, bytes(changed))
    for changed in (AUDIO[:-1], AUDIO + b"\0", b""):
        with pytest.raises(VerificationFailed, match="the record says 1028"):
            check_bytes(ENVELOPE, changed)


@pytest.mark.parametrize(
    "envelope, message",
    [
        (envelope_with(lambda e: e.update(extra=1)), "unknown or missing fields: extra"),
        (envelope_with(lambda e: e["record"].update(extra=1)), "unknown or missing fields: extra"),
        (envelope_with(lambda e: e["record"].pop("guidance")), "unknown or missing fields: guidance"),
        (envelope_with(lambda e: e["record"].pop("schema_version")), "schema_version is not a whole number"),
        (
            envelope_with(lambda e: e["record"].update(schema_version=1)),
            "unknown or missing fields: attestations, bars, caller_sha256, ch",
        ),
        (envelope_with(lambda e: e.update(record=[])), "the record is not an object"),
        (envelope_with(lambda e: e.update(caller=[])), "the caller is not an object"),
        (envelope_with(lambda e: e.update(caller=None)), "canonical"),
        (envelope_with(lambda e: e["caller"].update(node_id="x")), "unknown or missing fields: node_id"),
        (envelope_with(lambda e: e["record"].update(e.pop("caller"))), "unknown or missing fields: caller_salt"),
        (envelope_with(lambda e: e["record"]["attestations"][0].update(verdict="block")), "is not a valid Verdict"),
        (envelope_with(lambda e: e["record"].pop("prompt")), "unknown or missing fields: prompt"),
        (envelope_with(lambda e: e["signature"].update(algorithm="none")), "only ed25519"),
        (envelope_with(lambda e: e["signature"].pop("value")), "unknown or missing fields: value"),
        (envelope_with(lambda e: e["record"].update(seed="1")), "seed is not a whole number"),
        (envelope_with(lambda e: e["record"].update(seed=True)), "seed is not a whole number"),
        (envelope_with(lambda e: e["record"].update(model=None)), "model is not text"),
        (envelope_with(lambda e: e["record"].update(findings=[{}])), "findings has unknown or missing"),
        (envelope_with(lambda e: e["record"].update(sections=[{}])), "sections has unknown or missing"),
        (envelope_with(lambda e: e["record"]["sections"][0].update(bars=1.5)), "sections is not a whole number"),
        (envelope_with(lambda e: e["record"].update(exclude="drums")), "exclude is not a list"),
        (envelope_with(lambda e: e["record"].update(instruments=[1])), "instruments is not text"),
        (ENVELOPE + b"\n", "canonical"),
        (ENVELOPE + b"{}", "not a signed record"),
        (b" " + ENVELOPE, "canonical"),
        (ENVELOPE.replace(b'"seed":', b'"seed":1,"seed":'), "canonical"),
        (ENVELOPE.replace(b'"batch_size":4', b'"batch_size":4.0'), "batch_size is not a whole number"),
        (ENVELOPE.replace(b'"duration_s":20', b'"duration_s":20.0'), "canonical"),
        (ENVELOPE.replace(b'"duration_s":20', b'"duration_s":NaN'), "not a finite number"),
        (ENVELOPE.replace(b'"seed":', b'"seed":1' + b"0" * 5000), "not a signed record"),
        (b"[" * 100_000, "not a signed record"),
        (b"[]", "envelope is not an object"),
        (b"", "not a signed record"),
        (b"\xff\xfe", "not a signed record"),
        (b'"' + b"x" * (1 << 20) + b'"', "more than 1048576"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_envelope_of_any_other_shape_is_refused(envelope, message):
    with pytest.raises(VerificationFailed, match=message):
        SignedRecord.from_bytes(envelope)


def test_a_key_that_is_not_trusted_proves_nothing():
    stranger = Signer(Ed25519PrivateKey.generate())
    forged = stranger.sign(RECORD)

    with pytest.raises(VerificationFailed, match=f"{stranger.key_id}', which is not trusted here .*{SIGNER.key_id}"):
        verify(forged, AUDIO, TRUSTED)
    with pytest.raises(VerificationFailed, match="not the trusted key"):
        verify(replace(forged, signature=replace(forged.signature, key_id=SIGNER.key_id)), AUDIO, TRUSTED)
    own = replace(SIGNER.sign(RECORD).signature, value=forged.signature.value)
    with pytest.raises(VerificationFailed, match="signature does not fit"):
        verify(replace(forged, signature=own), AUDIO, TRUSTED)
    with pytest.raises(VerificationFailed, match="trusted: none"):
        verify(forged, AUDIO, {})


def test_a_changed_record_is_told_apart_from_changed_audio():
    cheaper = replace(SIGNER.sign(RECORD), record=replace(RECORD, cost_usd=0.0))

    with pytest.raises(VerificationFailed, match="signature does not fit the record"):
        verify(cheaper, AUDIO, TRUSTED)


def test_a_record_is_verified_for_its_track_and_its_version():
    signed = SIGNER.sign(RECORD)
    verify_record(signed, RECORD.track_id, 1, TRUSTED)

    with pytest.raises(VerificationFailed, match=f"the record of another track, '{RECORD.track_id}'"):
        verify_record(signed, "trk_" + "b" * 32, 1, TRUSTED)
    with pytest.raises(VerificationFailed, match="this is version 1 of the track under another number"):
        verify_record(signed, RECORD.track_id, 2, TRUSTED)
    with pytest.raises(VerificationFailed, match="not trusted here"):
        verify_record(Signer(Ed25519PrivateKey.generate()).sign(RECORD), RECORD.track_id, 1, TRUSTED)
    verify_record(SIGNER.sign(VERSION_1), VERSION_1.track_id, 7, TRUSTED)


def test_a_key_is_made_once_kept_private_and_never_overwritten(tmp_path):
    path = tmp_path / "keys" / "signing.pem"

    def create(_):
        try:
            return Signer.create(path)
        except FileExistsError:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [signer for signer in pool.map(create, range(8)) if signer is not None]

    [signer] = made
    assert Signer.load(path).key_id == signer.key_id
    assert list(load_trusted_keys(public_key_path(path))) == [signer.key_id]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["signing.pem", "signing.pub.pem"]
    with pytest.raises(FileExistsError):
        Signer.create(path)
    assert Signer.load(path).key_id == signer.key_id


def test_a_key_that_is_not_there_is_not_made_and_the_command_that_makes_it_is_named(tmp_path):
    with pytest.raises(
        InvalidRequest, match=r"is not there; make a key with: orchestrion signing init --key .*/no\.pem"
    ):
        Signer.load(tmp_path / "no.pem")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [Signer(Ed25519PrivateKey.generate()).public_pem, b"", b"junk"])
def test_a_public_key_of_somebody_else_is_not_published(tmp_path, content):
    path = tmp_path / "signing.pem"
    (tmp_path / "signing.pub.pem").write_bytes(content)

    with pytest.raises(InvalidRequest, match="is not the public key of the private key beside it"):
        Signer.create(path)
    assert not path.exists()
    (tmp_path / "signing.pub.pem").unlink()
    signer = Signer.create(path)
    (tmp_path / "signing.pub.pem").write_bytes(content)

    for use in (Signer.load, signer.publish_key):
        with pytest.raises(InvalidRequest, match=f"beside it .{signer.key_id}.; find out who put it there"):
            use(path)


def test_a_private_key_alone_is_enough_to_sign(tmp_path):
    signer = Signer.create(tmp_path / "signing.pem")
    (tmp_path / "signing.pub.pem").unlink()

    assert Signer.load(tmp_path / "signing.pem").key_id == signer.key_id
    assert list(tmp_path.iterdir()) == [tmp_path / "signing.pem"]


def test_a_person_has_one_key_and_is_told_when_it_is_made(tmp_path):
    told = []
    path = default_signing_key({"ORCHESTRION_SIGNING_KEY": str(tmp_path / "mine.pem")})

    signers = [have_signing_key(path, told.append) for _ in range(2)]

    assert signers[0].key_id == signers[1].key_id
    [line] = told
    assert signers[0].key_id in line and str(tmp_path / "mine.pem") in line
    assert default_signing_key({}) == Path.home() / ".orchestrion" / "signing-key.pem"


def test_trusted_are_the_signers_own_key_and_those_that_are_named(tmp_path):
    earlier = Signer(Ed25519PrivateKey.generate())
    (tmp_path / "earlier.pem").write_bytes(earlier.public_pem)

    assert list(trusted_keys(SIGNER, None)) == [SIGNER.key_id]
    assert set(trusted_keys(SIGNER, tmp_path)) == {SIGNER.key_id, earlier.key_id}
    with pytest.raises(InvalidRequest, match="cannot be read"):
        trusted_keys(SIGNER, tmp_path / "none")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is not a usable private key"),
        (b"not a key", "is not a usable private key"),
        (SIGNER.public_pem, "is not a usable private key"),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "must be Ed25519",
        ),
    ],
    ids=["empty", "text", "public key", "other kind"],
)
def test_a_file_that_is_no_signing_key_is_left_alone(tmp_path, content, message):
    path = tmp_path / "key.pem"
    path.write_bytes(content)

    with pytest.raises(InvalidRequest, match=message):
        Signer.load(path)
    assert path.read_bytes() == content


def test_trusted_keys_come_from_a_file_or_a_folder(tmp_path):
    other = Signer(Ed25519PrivateKey.generate())
    (tmp_path / "a.pem").write_bytes(SIGNER.public_pem)
    (tmp_path / "b.pem").write_bytes(other.public_pem)
    (tmp_path / "README").write_text("not a key")

    assert set(load_trusted_keys(tmp_path)) == {SIGNER.key_id, other.key_id}
    one = load_trusted_keys(tmp_path / "a.pem")
    assert {key_id_of(key.public_bytes_raw()) for key in one.values()} == set(one) == {SIGNER.key_id}


def test_keys_that_cannot_be_trusted_are_told(tmp_path):
    with pytest.raises(InvalidRequest, match="put the signer's public key there"):
        load_trusted_keys(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        load_trusted_keys(tmp_path / "none.pem")
    (tmp_path / "x.pem").write_text("x")
    with pytest.raises(InvalidRequest, match=r"x\.pem"):
        load_trusted_keys(tmp_path)


def test_the_document_describes_every_field_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (.+) \|$", DOCS.read_text(), re.MULTILINE)

    assert [(name, column, null == "yes", meaning) for name, column, null, meaning in rows] == [
        (field.name, str(arrow_type(field)).replace(" not null", ""), field.nullable, field.description)
        for field in RECORD_FIELDS
    ]
    assert [field.name for field in fields(TrackRecord)] == RECORD_SCHEMA.names
