"""What is typed for a key becomes the request, and keys become lines for people."""

from typing import Any

import pytest

from toolwright.v1 import keys_pb2 as pb
from toolwright_server.commands.asking import UsageError
from toolwright_server.commands.keys import Wanted, print_table


def test_what_is_typed_becomes_the_request() -> None:
    wanted = Wanted(user="bob", role="operator", tenant="acme", acts_for=["ann"], scopes=["crm.*"], days=1.5)
    request = wanted.request()
    assert (request.user_id, request.tenant_id, request.role) == ("bob", "acme", pb.ROLE_OPERATOR)
    assert (list(request.acts_for), list(request.scopes)) == (["ann"], ["crm.*"])
    assert request.time_to_live.seconds == 129_600


def test_a_key_without_days_is_for_ever() -> None:
    assert not Wanted(user="bob", role="agent").request().HasField("time_to_live")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"role": "root"}, "is agent, operator or admin"), ({"days": 0.0}, "--days 0"), ({"days": 4e4}, "at most 36500")],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(wrong: dict[str, Any], sentence: str) -> None:
    given: dict[str, Any] = {"user": "bob", "role": "agent"} | wrong
    with pytest.raises(UsageError, match=sentence):
        Wanted(**given).request()


def test_keys_are_shown_with_what_they_may_and_whether_they_are_valid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    valid = pb.ApiKey(key_id="a" * 16, tenant_id="acme", principal="planner", user_id="bob", role=pb.ROLE_AGENT)
    valid.scopes.extend(["crm.*", "x.y"])
    expiring = pb.ApiKey(key_id="b" * 16, role=pb.ROLE_ADMIN, label="\x1b[31mred")
    expiring.expire_time.FromSeconds(1_800_000_000)
    revoked = pb.ApiKey(key_id="c" * 16, role=pb.ROLE_OPERATOR)
    revoked.expire_time.FromSeconds(1_800_000_000)
    revoked.revoke_time.FromSeconds(1_700_000_000)
    print_table([valid, expiring, revoked])
    lines = capsys.readouterr().out.splitlines()
    assert "crm.* x.y" in lines[1]
    assert "valid" in lines[1]
    assert "until 2027-01-15" in lines[2]
    assert "\x1b" not in lines[2]
    assert "revoked 2023-11-14" in lines[3]
