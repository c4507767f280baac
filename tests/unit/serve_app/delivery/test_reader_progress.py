"""An answer goes no further than its reader, by what the proxy reports; without reports it keeps to a pace."""

import asyncio

from serve_app.delivery.pace import Pace
from serve_app.delivery.reader_progress import (
    EXTENSION,
    REPORT_EVERY_BYTES,
    WINDOW_BYTES,
    ReaderPacedResponse,
    ReportProgress,
)

BLOCK = bytes(64 * 1024)
NO_HURRY = Pace(1e12, 1e12)


class Connection:
    """The proxy and a client behind it. Messages go to the replica and back as Serve hands them on: without waiting."""

    def __init__(self, client_reads):
        self.client_reads = client_reads
        self.made = self.read = 0
        self.has_left = asyncio.Event()

    async def blocks(self, count):
        for _ in range(count):
            self.made += len(BLOCK)
            yield BLOCK

    async def receive(self):
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await self.client_reads.wait()
        self.read += len(message.get("body", b""))

    async def serve(self, response):
        """What Serve's proxy does: takes all that the replica gives at once, and hands on all that it receives."""

        async def proxy(scope, receive, send):
            to_replica, from_replica = asyncio.Queue(), asyncio.Queue()

            async def hand_on():
                while True:
                    await to_replica.put(await receive())

            handing_on = asyncio.ensure_future(hand_on())
            replica = asyncio.ensure_future(response(scope, to_replica.get, from_replica.put))
            try:
                while True:
                    message = await from_replica.get()
                    await send(message)
                    if message["type"] == "http.response.body" and not message.get("more_body"):
                        await replica
                        return
            finally:
                handing_on.cancel()
                replica.cancel()

        await ReportProgress(proxy)({"type": "http", "extensions": None}, self.receive, self.send)


async def settled(value, turns=2000):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value()


def test_no_more_than_a_window_is_under_way_to_a_client_that_reads_nothing():
    async def run():
        connection = Connection(asyncio.Event())
        response = ReaderPacedResponse(connection.blocks(1000), 200, {}, "audio/wav", NO_HURRY)
        serving = asyncio.ensure_future(connection.serve(response))
        stalled = await settled(lambda: connection.made)
        connection.client_reads.set()
        await serving
        return stalled, connection.made, connection.read

    stalled, made, read = asyncio.run(run())

    assert WINDOW_BYTES <= stalled <= WINDOW_BYTES + 2 * len(BLOCK)
    assert made == read == 1000 * len(BLOCK)


def test_a_client_that_leaves_ends_what_is_made_for_it():
    async def run():
        connection = Connection(asyncio.Event())
        response = ReaderPacedResponse(connection.blocks(1000), 200, {}, "audio/wav", NO_HURRY)
        serving = asyncio.ensure_future(connection.serve(response))
        await settled(lambda: None)
        connection.has_left.set()
        made = await settled(lambda: connection.made)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return made

    assert asyncio.run(run()) <= WINDOW_BYTES + 2 * len(BLOCK)


def test_reports_come_between_what_a_client_sends_and_lose_none_of_it():
    async def run():
        received = []

        async def app(scope, receive, send):
            assert EXTENSION in scope["extensions"]
            received.append(await receive())
            for _ in range(8):
                await send({"type": "http.response.body", "body": bytes(REPORT_EVERY_BYTES // 2), "more_body": True})
                await asyncio.sleep(0)
            received.append(await receive())
            parts.set()
            received.append(await receive())

        parts = asyncio.Event()
        messages = iter([{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}])

        async def receive():
            message = next(messages)
            if message["type"] == "http.disconnect":
                await parts.wait()
            return message

        async def send(message):
            pass

        await ReportProgress(app)({"type": "http"}, receive, send)
        return received

    request, report, disconnect = asyncio.run(run())

    assert request == {"type": "http.request", "body": b"x"}
    assert report == {"type": EXTENSION, "bytes": 4 * REPORT_EVERY_BYTES}
    assert disconnect == {"type": "http.disconnect"}


def test_without_reports_an_answer_keeps_its_pace():
    pace = Pace(lead=1000, per_s=100)

    assert pace.wait_s(sent=900, elapsed_s=0) == 0
    assert pace.wait_s(sent=1500, elapsed_s=0) == 5
    assert pace.wait_s(sent=1500, elapsed_s=4) == 1
    assert pace.wait_s(sent=1500, elapsed_s=60) == 0
