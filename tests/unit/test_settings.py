import os
from pathlib import Path

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.settings import CATEGORY_TIMEOUTS_SECONDS, Address, Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("TOOLWRIGHT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(folder: Path, text: str) -> Path:
    path = folder / "toolwright.toml"
    path.write_text(text)
    return path


def test_nothing_given_means_the_defaults() -> None:
    settings = load_settings()
    assert settings.listen == "127.0.0.1:50051"
    assert settings.data_dir == Path(".toolwright")
    assert settings.category_timeouts_seconds == CATEGORY_TIMEOUTS_SECONDS
    assert settings.process_workers >= 4
    assert settings.server_id


def test_two_servers_of_one_host_are_told_apart() -> None:
    assert load_settings().server_id != load_settings().server_id
    assert load_settings(None, {"server_id": "a"}).server_id == "a"


def test_options_win_over_variables_and_variables_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "thread_workers = 1\nnesting_limit = 1\nthread_queue_limit = 1\n")
    monkeypatch.setenv("TOOLWRIGHT_NESTING_LIMIT", "2")
    monkeypatch.setenv("TOOLWRIGHT_THREAD_QUEUE_LIMIT", "2")
    settings = load_settings(path, {"thread_queue_limit": 3})
    assert (settings.thread_workers, settings.nesting_limit, settings.thread_queue_limit) == (1, 2, 3)


def test_the_file_is_also_found_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLWRIGHT_CONFIG", str(written(tmp_path, "thread_workers = 7\n")))
    assert load_settings().thread_workers == 7


def test_lists_are_separated_by_commas_or_are_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLWRIGHT_TOOLKITS", "crm, knowledge,")
    settings = load_settings(written(tmp_path, 'tools = ["a", "b.py"]\n'))
    assert settings.toolkits == ("crm", "knowledge")
    assert settings.tools == ("a", "b.py")


def test_category_timeouts_are_merged_over_the_defaults_key_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "[category_timeouts_seconds]\ncrm = 6\nmine = 1.5\n")
    monkeypatch.setenv("TOOLWRIGHT_CATEGORY_TIMEOUTS_SECONDS__CRM", "7")
    timeouts = load_settings(path).category_timeouts_seconds
    assert (timeouts["crm"], timeouts["mine"], timeouts["drive"]) == (7, 1.5, 60)


def test_a_toolkits_table_is_read_from_the_file_and_from_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, '[toolkit.knowledge]\nfolders = ["a"]\nlanguage = "en"\n')
    monkeypatch.setenv("TOOLWRIGHT_TOOLKIT__KNOWLEDGE__FOLDERS", '["docs", "more"]')
    monkeypatch.setenv("TOOLWRIGHT_TOOLKIT__CRM__NAME", "[not json")
    assert load_settings(path).toolkit == {
        "knowledge": {"folders": ["docs", "more"], "language": "en"},
        "crm": {"name": "[not json"},
    }


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().listen = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("TOOLWRIGHT_LISTN", "x", "TOOLWRIGHT_LISTN is no setting; the nearest one is TOOLWRIGHT_LISTEN"),
        ("TOOLWRIGHT_LISTEN__HOST", "x", "TOOLWRIGHT_LISTEN__HOST is no setting; the nearest one is TOOLWRIGHT_LISTEN"),
        ("TOOLWRIGHT_WORKERS", "2", r"workers = 2 needs a PostgreSQL: .*(?s:.)*workers = 2 needs a Redis or Valkey"),
        ("TOOLWRIGHT_THREAD_WORKERS", "0", r"thread_workers \(TOOLWRIGHT_THREAD_WORKERS\): .*equal to 1, not '0'"),
        ("TOOLWRIGHT_THREAD_WORKERS", "many", r"\(TOOLWRIGHT_THREAD_WORKERS\): .*valid integer.*, not 'many'"),
        ("TOOLWRIGHT_DEFAULT_TIMEOUT_SECONDS", "inf", "default_timeout_seconds .* finite number"),
        ("TOOLWRIGHT_DEFAULT_TIMEOUT_SECONDS", "-1", "greater than 0, not '-1'"),
        ("TOOLWRIGHT_RETENTION_PAYLOADS_DAYS", "0.5", "retention_payloads_days .* must be at least 1, or 0"),
        ("TOOLWRIGHT_RETENTION_AUDIT_DAYS", "-1", "must be at least 1, or 0"),
        ("TOOLWRIGHT_LOG_FORMAT", "xml", "log_format .* 'auto', 'json' or 'text', not 'xml'"),
        ("TOOLWRIGHT_LISTEN", "50051", "'50051' is no address: write host:port"),
        ("TOOLWRIGHT_LISTEN", "127.0.0.1:99999", "has no port from 0 to 65535"),
        ("TOOLWRIGHT_LISTEN", "", "is no address"),
        ("TOOLWRIGHT_HTTP_LISTEN", "unix:/tmp/x", "must be host:port, or empty"),
        ("TOOLWRIGHT_PROCESS_ENVIRONMENT", "A B", "'A B' is no name of an environment variable"),
        ("TOOLWRIGHT_CATEGORY_TIMEOUTS_SECONDS", "{", "category_timeouts_seconds.*write it as JSON"),
        ("TOOLWRIGHT_CATEGORY_TIMEOUTS_SECONDS__CRM", "0", r"category_timeouts_seconds\.crm .*greater than 0"),
        ("TOOLWRIGHT_ARGUMENTS_LIMIT_BYTES", "99999999", "must be below message_limit_bytes"),
        ("TOOLWRIGHT_LISTEN", "0.0.0.0:50051", "can be reached from other machines.*insecure = true"),
        ("TOOLWRIGHT_LISTEN", "example.org:1", "can be reached from other machines"),
        ("TOOLWRIGHT_HTTP_LISTEN", "[::]:8080", r"http_listen = '\[::\]:8080' can be reached"),
    ],
)
def test_a_variable_that_cannot_be_right_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=sentence):
        load_settings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "thread_worker = 1\n",
            r"thread_worker in .*toolwright\.toml is no setting; the nearest one is thread_workers",
        ),
        ("workers = 65\n", r"workers \(.*toolwright\.toml\): .*less than or equal to 64, not 65"),
        ("redis_url = 3\n", r"redis_url \(.*toolwright\.toml\): input should be a valid string$"),
        ("thread_workers = 0\n", r"thread_workers \(.*toolwright\.toml\): .*, not 0"),
        ("thread_workers = \n", r"the configuration file .*toolwright\.toml is no TOML: .*line 1"),
        ("thread_workers = 0\nnesting_limit = 0\n", r"(?s)thread_workers.*\n.*nesting_limit"),
        ("toolkit = 3\n", r"toolkit \(.*dictionary"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_settings(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be read: No such file"):
        load_settings(tmp_path / "nowhere.toml")


def test_a_secret_in_a_toolkits_table_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, '[toolkit]\ncrm = "hunter2"\n'))
    assert "toolkit.crm" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.0.1:1", "[::1]:5", "localhost:5", "unix:/run/x.sock"])
def test_loopback_addresses_need_no_leave(listen: str) -> None:
    assert load_settings(None, {"listen": listen}).is_loopback


def test_an_open_address_is_taken_when_insecure_is_set() -> None:
    settings = load_settings(None, {"listen": "0.0.0.0:50051", "insecure": True})
    assert not settings.is_loopback


def test_http_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLWRIGHT_HTTP_LISTEN", "")
    assert load_settings().http_listen == ""


def test_an_address_is_taken_apart() -> None:
    assert Address.parse("[::1]:50051") == Address("::1", 50051)
    assert Address.parse("unix:/run/x") == Address("", 0, "/run/x")
    for wrong in ("::1:50051", "host:", ":5", "unix:", "host:5x", "host:٣"):
        with pytest.raises(ValueError, match="'"):
            Address.parse(wrong)


@pytest.mark.parametrize("name", ["data_dir", "artifact_dir", "pepper_file", "limits_file"])
def test_a_tilde_is_the_home_of_whoever_starts_the_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(getattr(Settings.model_validate({name: "~/there"}), name)) == "/home/ada/there"
