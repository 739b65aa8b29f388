from pathlib import Path
from typing import Any

from toolwright_server.settings import Settings, load_settings
from toolwright_server.supervision.order import ProcessOrder, part_of

SHARED: dict[str, Any] = {"workers": 3, "database_url": "postgresql://u:hunter2@h/d", "redis_url": "redis://:hunter3@h"}


def test_a_process_gets_the_same_settings_but_for_its_name_and_what_the_supervisor_does(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        **SHARED,
        "server_id": "one",
        "data_dir": tmp_path,
        "tools": ("a", "b"),
        "toolkit": {"crm": {"busy_timeout_seconds": 3.5}},
        "category_timeouts_seconds": {"crm": 8.0},
        "process_workers": 5,
        "process_extra_workers": 0,
    }
    settings = Settings(**given)
    order = ProcessOrder(2, part_of(settings, 2), 1234, ["/somewhere"])
    again = ProcessOrder.from_json(order.to_json())
    assert (again.number, again.supervisor_pid, again.path, again.server_id) == (2, 1234, ["/somewhere"], "one-2")
    part = Settings(**again.settings)
    wanted = settings.model_dump() | {"server_id": "one-2", "workers": 1, "http_listen": ""}
    assert part.model_dump() == wanted
    assert part.database_url.get_secret_value() == SHARED["database_url"]


def test_processes_of_one_server_have_names_of_their_own_also_when_nobody_named_it() -> None:
    settings = Settings(**SHARED)
    assert [part_of(settings, number)["server_id"] for number in (1, 2, 3)] == [
        f"{settings.server_id}-{number}" for number in (1, 2, 3)
    ]


def test_the_worker_processes_of_a_machine_are_shared_out_unless_somebody_chose_a_number() -> None:
    for_one = load_settings().process_workers
    settings = Settings(**SHARED, process_extra_workers=7)
    part = part_of(settings, 1)
    assert part["process_workers"] == -(-for_one // 3)
    assert part["process_extra_workers"] == 7
