"""A client that reads slowly is waited for in the store, not in Serve's memory."""

import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

#: What the kernel and Serve's proxy hold of a connection that is not read, and the window of the answer.
UNDER_WAY_BYTES = 10 * 2**20


def test_what_a_client_has_not_read_has_not_left_the_store(client, service):
    # 21 MB: at the pace that is kept without reports, all of it would be in Serve after two seconds.
    track = client.post("/v1/tracks", json={"prompt": "ambient", "duration_s": 120, "seed": 9}).json()
    sha256 = track["record"]["audio_sha256"]
    address = urlsplit(service.url)
    request = f"GET {track['links']['audio']} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(request.encode())
        time.sleep(3.0)
        (service.store / "blobs" / sha256[:2] / f"{sha256}.wav").unlink()
        received = 0
        with suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                received += len(part)

    assert 2**20 < received < UNDER_WAY_BYTES
    assert track["record"]["audio_bytes"] > 2 * UNDER_WAY_BYTES


def test_a_reader_that_keeps_up_gets_all_of_it(client):
    track = client.post("/v1/tracks", json={"prompt": "ambient", "duration_s": 90, "seed": 10}).json()

    whole = client.get(track["links"]["audio"]).content
    again = client.post("/v1/tracks/stream?format=pcm", json={"prompt": "ambient", "duration_s": 90, "seed": 10})

    assert len(whole) == track["record"]["audio_bytes"]
    assert again.headers["x-cache"] == "hit"
    assert len(again.content) == 90 * 44_100 * 4
