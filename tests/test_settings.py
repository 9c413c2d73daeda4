"""Settings: the environment over the file over the defaults, and nothing misspelt goes unnoticed."""

from pathlib import Path

import pytest

from longshore.errors import LongshoreError
from longshore.exports import catalog
from longshore.settings import NAMES, Settings, description
from longshore.settings_sources import load


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a settings file to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_settings_without_file_and_environment_are_the_defaults() -> None:
    loaded = load({})
    assert loaded.settings == Settings()
    assert set(loaded.origin.values()) == {"default"}
    assert set(loaded.origin) == set(NAMES)


def test_settings_of_the_client_are_none_of_the_service() -> None:
    variables = {"LONGSHORE_ADDRESS": "http://x", "LONGSHORE_TOKEN": "x:y", "LONGSHORE_CHAIN": "1764"}
    assert load(variables).settings == load({}).settings


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(empty_folder: Path) -> None:
    (empty_folder / "longshore.toml").write_text('port = 9001\nhost = "::1"\n')
    loaded = load({"LONGSHORE_PORT": "9002", "UNRELATED": "x"})
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.log_level) == (9002, "::1", "info")
    assert loaded.origin["port"] == "LONGSHORE_PORT"
    assert loaded.origin["host"] == "longshore.toml"
    assert loaded.origin["log_level"] == "default"


def test_settings_file_and_catalog_may_begin_with_a_byte_order_mark(empty_folder: Path) -> None:
    (empty_folder / "longshore.toml").write_text("port = 9001", encoding="utf-8-sig")
    assert load({}).settings.port == 9001
    shipped = Path(catalog.__file__).with_name("catalog.toml").read_text(encoding="utf-8")
    (empty_folder / "catalog.toml").write_text(shipped, encoding="utf-8-sig")
    assert catalog.load(str(empty_folder / "catalog.toml")) == catalog.load()


def test_settings_file_is_read_from_the_given_path(empty_folder: Path) -> None:
    file = empty_folder / "elsewhere {x}.toml"
    file.write_text("port = 9001")
    loaded = load({"LONGSHORE_CONFIG": str(file)})
    assert loaded.settings.port == 9001
    assert loaded.origin["port"] == str(file)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LONGSHORE_PROT": "1"}, ("LONGSHORE_PROT", "did you mean LONGSHORE_PORT?")),
        ({"LONGSHORE_DATABASE": "x"}, ("LONGSHORE_DATABASE", "did you mean LONGSHORE_DATABASE_URL?")),
        ({"LONGSHORE_ZZZZZZZZ": "x"}, ("LONGSHORE_ZZZZZZZZ", "`longshore settings` lists")),
        ({"LONGSHORE_PORT": "http"}, ("port", "expected `int`")),
        ({"LONGSHORE_PORT": "0"}, ("port", ">= 1")),
        ({"LONGSHORE_PORT": "65536"}, ("port", "<= 65535")),
        ({"LONGSHORE_PORT": ""}, ("port", "expected `int`")),
        ({"LONGSHORE_CHAIN_RESULT_DAYS": "1764"}, ("chain_result_days", "1764=1")),
        ({"LONGSHORE_CHAIN_RESULT_DAYS": "1764=-1"}, ("chain_result_days", "1764=1")),
        ({"LONGSHORE_WORKER_TASKS": "1"}, ("worker_tasks", ">= 2")),
        ({"LONGSHORE_HEARTBEAT_TIMEOUT": "nan"}, ("heartbeat_timeout",)),
        ({"LONGSHORE_LOG_FORMAT": "xml"}, ("log_format", "'xml'")),
        ({"LONGSHORE_DATABASE_URL": "mysql://x"}, ("database_url", "postgresql://")),
        ({"LONGSHORE_SOURCE_URL": "x"}, ("source_url", "postgresql://")),
        ({"LONGSHORE_CHAIN_RESULT_DAYS": "1764=inf"}, ("chain_result_days", "1764=1")),
        ({"LONGSHORE_PUBLIC_URL": "exports.example.com"}, ("public_url", "https://exports.example.com")),
        ({"LONGSHORE_RESULTS_URL": "exports/longshore"}, ("results_url", "s3://BUCKET/PREFIX")),
        ({"LONGSHORE_RESULTS_URL": "s3://key:secret@bucket"}, ("results_url", "s3://BUCKET/PREFIX")),
        ({"LONGSHORE_OUTBOUND_ALLOW": "inside"}, ("outbound_allow", "inside")),
        ({"LONGSHORE_CORS_ORIGINS": "app.example.com"}, ("cors_origins", "'app.example.com'")),
        ({"LONGSHORE_TRUSTED_PROXIES": "proxy"}, ("trusted_proxies", "'proxy'")),
        ({"LONGSHORE_SECRET": "short"}, ("secret", "32 characters")),
        ({"LONGSHORE_SECRET": f"{'x' * 32},short"}, ("secret", "each of a list")),
        ({"LONGSHORE_SECRET": f"{'x' * 32},"}, ("secret", "empty entry")),
        ({"LONGSHORE_SECRET": ","}, ("secret", "empty entry")),
        ({"LONGSHORE_CHAIN_OUTBOUND_ALLOW": "10.1.0.0/16"}, ("chain_outbound_allow", "1764=10.1.0.0/16")),
        ({"LONGSHORE_CHAIN_OUTBOUND_ALLOW": "0=10.1.0.0/16"}, ("chain_outbound_allow", "1764=10.1.0.0/16")),
        ({"LONGSHORE_CHAIN_OUTBOUND_ALLOW": "1764=inside"}, ("chain_outbound_allow", "inside")),
        ({"LONGSHORE_ADDRESS_RATE": "many"}, ("address_rate", "6000/minute")),
        ({"LONGSHORE_CONFIG": "missing.toml"}, ("missing.toml", "No such file")),
        ({"LONGSHORE_DATA": ""}, ("data is empty", "default, data")),
        ({"LONGSHORE_HOST": ""}, ("host is empty", "default, 127.0.0.1")),
        ({"LONGSHORE_PORT": ""}, ("port cannot be used", ": ''")),
        ({"LONGSHORE_RESULT_DAYS": "a week"}, ("result_days", "'a week'")),
        ({"LONGSHORE_DATA": "~nobody-of-this-name/x"}, ("~nobody-of-this-name/x", "home folder")),
    ],
)
def test_invalid_setting_is_named(variables: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(LongshoreError) as caught:
        load(variables)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ("`prot` in longshore.toml", "did you mean port?")),
        ("port = 'x'", ("port", "expected `int`")),
        ("port = [1]", ("port", "expected `int`")),
        ("port = ", ("longshore.toml", "is no TOML")),
        ("LONGSHORE_PORT = 1", ("LONGSHORE_PORT",)),
        ("data = 5", ("data",)),
    ],
)
def test_invalid_settings_file_is_named(empty_folder: Path, text: str, words: tuple[str, ...]) -> None:
    (empty_folder / "longshore.toml").write_text(text)
    with pytest.raises(LongshoreError) as caught:
        load({})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", [name for name in NAMES if getattr(Settings(), name) == ""])
def test_setting_that_is_empty_by_default_may_be_empty(name: str) -> None:
    assert load({f"LONGSHORE_{name.upper()}": ""}).settings == Settings()


def test_folder_of_the_data_and_the_catalog_may_be_in_the_home_folder(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    (empty_folder / "longshore.toml").write_text('data = "~/longshore"')
    settings = load({"LONGSHORE_CATALOG": "~/catalog.toml"}).settings
    assert (settings.data, settings.catalog) == (Path("/home/anna/longshore"), "/home/anna/catalog.toml")


def test_error_about_a_secret_does_not_contain_it() -> None:
    with pytest.raises(LongshoreError) as caught:
        load({"LONGSHORE_DATABASE_URL": "mysql://me:hunter2@db"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(LongshoreError) as caught:
        load({"LONGSHORE_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_described(name: str) -> None:
    assert description(name)


def test_networks_of_a_chain_are_its_own_and_those_of_all() -> None:
    variables = {
        "LONGSHORE_OUTBOUND_ALLOW": "10.9.0.0/16",
        "LONGSHORE_CHAIN_OUTBOUND_ALLOW": "1764=10.1.0.0/16, 9 = fd00::/8, 1764=10.2.0.5",
    }
    settings = load(variables).settings
    networks = {chain: [str(network) for network in settings.outbound_networks_of(chain)] for chain in (1764, 9, 1)}
    assert networks == {
        1764: ["10.9.0.0/16", "10.1.0.0/16", "10.2.0.5/32"],
        9: ["10.9.0.0/16", "fd00::/8"],
        1: ["10.9.0.0/16"],
    }


def test_secrets_are_a_list_newest_first() -> None:
    new, old = "n" * 32, "o" * 32
    assert load({"LONGSHORE_SECRET": f" {new}, {old} "}).settings.secrets == [new, old]
    assert load({"LONGSHORE_SECRET": ""}).settings.secrets == []
