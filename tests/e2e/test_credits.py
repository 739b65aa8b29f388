"""A hundred callers spend fifty credits over two processes of one server: a sample of the torture, see there."""

from pathlib import Path

import pytest

from tests.counter import running_counter
from tests.databases import Postgres
from tests.several import Stores, several
from tests.torture.banking import Bank
from tests.torture.bookkeeping import admin_key
from tests.torture.housing import TOOLS
from tests.valkeys import Server

pytestmark = pytest.mark.slow


def test_exactly_as_many_calls_succeed_as_are_paid_for(tmp_path: Path, postgres: Postgres, valkey: Server) -> None:
    stores = Stores.of(postgres, valkey)
    with running_counter(tmp_path / "counter", stores.database_url) as counter:
        bank = Bank(tmp_path, counter, stores, callers=100, credits=50)
        with several(tmp_path, stores, "--tools", str(TOOLS), processes=2, **bank.settings()) as server:
            bank.spent([server] * 4, admin_key(server.data_dir), "sample")
