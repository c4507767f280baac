"""What the index of a store says is signed, and has one spelling."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrion.errors import VerificationFailed
from orchestrion.trust.index_entry import IndexEntry, SignedEntry, verify_whole_index, whole_index
from orchestrion.trust.signing import Signer
from orchestrion.trust.tombstone import Tombstone, Withdrawal

TRACK, PIECE = "trk_" + "a" * 32, "pce_" + "a" * 32
ENTRY = IndexEntry(TRACK, PIECE, "ab" * 32, "sha256:" + "cd" * 32, None, "sha256:" + "ef" * 32, ("blobs/aa/x.flac",))
SIGNER, STRANGER = (Signer(Ed25519PrivateKey.generate()) for _ in range(2))
TRUSTED = {SIGNER.key_id: SIGNER.public_key}


def test_an_entry_is_read_as_it_was_signed():
    signed = SignedEntry.sign(ENTRY, SIGNER)

    assert SignedEntry.from_bytes(signed.to_bytes()) == signed
    signed.verify(TRACK, PIECE, TRUSTED)


@pytest.mark.parametrize(
    "signed, message",
    [
        (SignedEntry.sign(ENTRY, STRANGER), "not trusted here"),
        (replace(SignedEntry.sign(ENTRY, SIGNER), entry=replace(ENTRY, blobs=())), "was changed"),
        (SignedEntry.sign(replace(ENTRY, track_id="trk_" + "b" * 32), SIGNER), "is that of"),
        (SignedEntry.sign(replace(ENTRY, piece_id="pce_" + "b" * 32), SIGNER), "is that of"),
    ],
    ids=["stranger", "changed", "another track", "another piece"],
)
def test_an_entry_counts_for_its_track_of_its_piece_and_by_a_trusted_key(signed, message):
    with pytest.raises(VerificationFailed, match=message):
        signed.verify(TRACK, PIECE, TRUSTED)


@pytest.mark.parametrize(
    "change, message",
    [
        ((b'"theme":null', b'"theme":7'), "theme is not text"),
        ((b'"piece_id":', b'"peace_id":'), "unknown or missing fields: peace_id, piece_id"),
        ((b'"schema_version":1', b'"schema_version":2'), "schema_version is 2, this release knows 1"),
        ((b'["blobs/aa/x.flac"]', b'"blobs/aa/x.flac"'), "blobs is not a list"),
        ((b'{"entry"', b' {"entry"'), "canonical"),
    ],
)
def test_an_entry_of_any_other_shape_is_refused(change, message):
    with pytest.raises(VerificationFailed, match=message):
        SignedEntry.from_bytes(SignedEntry.sign(ENTRY, SIGNER).to_bytes().replace(*change))


def test_that_an_index_is_whole_is_believed_of_a_trusted_key():
    verify_whole_index(whole_index(SIGNER), TRUSTED)

    for statement in (whole_index(STRANGER), b"{}", b"", b"[" * 100_000):
        with pytest.raises(VerificationFailed):
            verify_whole_index(statement, TRUSTED)


def test_the_tombstone_of_a_piece_is_none_of_a_track_and_the_other_way_round():
    of_piece, of_track = (Tombstone.sign(Withdrawal(subject, "r", "a", "now"), SIGNER) for subject in (PIECE, TRACK))

    for tombstone, subject in ((of_piece, PIECE), (of_track, TRACK)):
        assert Tombstone.from_bytes(tombstone.to_bytes()) == tombstone
        tombstone.verify(subject, TRUSTED)
    renamed = of_piece.to_bytes().replace(b'"piece_id"', b'"track_id"')
    with pytest.raises(VerificationFailed, match="canonical"):
        Tombstone.from_bytes(renamed)
    with pytest.raises(VerificationFailed, match=f"the tombstone of {TRACK} is that of"):
        of_piece.verify(TRACK, TRUSTED)
