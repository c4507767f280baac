"""Which token a Ray of our own gets."""

import pytest

from cluster.ray_internals import MODE, TOKEN, TOKEN_FILE, token_environment
from orchestrion.errors import InvalidRequest


def test_a_new_random_token_for_each_run():
    one, other = token_environment({}), token_environment({MODE: "TOKEN", "HOME": "/home/x"})

    assert one[MODE] == other[MODE] == "token"
    assert len(one[TOKEN]) == len(other[TOKEN]) == 64 and one[TOKEN] != other[TOKEN]


@pytest.mark.parametrize("own", [{TOKEN: "mine"}, {TOKEN_FILE: "/run/secrets/ray"}, {MODE: "token", TOKEN: "mine"}])
def test_whoever_has_a_token_keeps_it(own):
    assert token_environment(own) == {MODE: "token"}


@pytest.mark.parametrize("mode", ["disabled", "DISABLED", "k8s", ""])
def test_a_ray_without_a_token_is_refused(mode):
    with pytest.raises(InvalidRequest, match="unset it"):
        token_environment({MODE: mode, TOKEN: "mine"})
