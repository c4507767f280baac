"""What a replica of the ingress has done before anybody asks it."""

import gc

from tests.ingress_app import Service


def test_a_server_does_not_look_through_its_words_for_garbage(tmp_path):
    try:
        Service(tmp_path)

        assert gc.get_freeze_count() > 100_000
    finally:
        gc.unfreeze()
