"""What bounds a stream that nobody reads."""

import pytest

from serve_app.delivery.pace import Pace


@pytest.mark.parametrize(
    "sent_s, elapsed_s, wait_s",
    [(0, 0, 0), (60, 0, 0), (64, 0, 1), (64, 1, 0), (64, 30, 0), (100, 5, 5)],
)
def test_after_its_lead_a_stream_keeps_its_pace(sent_s, elapsed_s, wait_s):
    assert Pace(lead=60, per_s=4).wait_s(sent_s, elapsed_s) == wait_s


def test_a_client_that_reads_nothing_is_sent_no_more_than_lead_and_pace():
    sent_s, now_s = 0.0, 0.0
    while now_s < 20:
        sent_s += 1.0
        now_s += Pace(lead=60, per_s=4).wait_s(sent_s, now_s)

    assert sent_s <= 60 + 4 * 20 + 1
