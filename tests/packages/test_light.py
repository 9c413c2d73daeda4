"""`pip install longshore`: the client and the commands for users, few and small packages that start quickly."""

import json
from pathlib import Path

import pytest

from longshore.client import Longshore as Client
from longshore.client.api_types import Format
from tests.packages.environments import Environment, build_wheel
from tests.service import Longshore

FORMATS: tuple[Format, ...] = ("csv", "parquet")
MAX_PACKAGES = 12
MAX_BYTES = 30_000_000
MAX_IMPORT_SECONDS = 0.2
MAX_HELP_SECONDS = 0.3


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("light")
    return Environment(folder / "environment", str(build_wheel(folder)))


def test_client_and_user_commands_are_few_and_small_packages(light: Environment) -> None:
    assert len(light.names()) <= MAX_PACKAGES, light.names()
    assert light.size() <= MAX_BYTES


def test_client_and_help_start_quickly(light: Environment) -> None:
    assert light.seconds("python", "-c", "from longshore import Longshore") <= MAX_IMPORT_SECONDS
    assert light.seconds("longshore", "--help") <= MAX_HELP_SECONDS


def test_export_with_the_light_install_works_by_command_and_by_client(
    light: Environment, service: Longshore, tmp_path: Path
) -> None:
    settings = {"XDG_CONFIG_HOME": str(tmp_path)}
    (tmp_path / "token").write_text(service.token())
    login = f"login --address {service.address} --chain 1764 < token"
    done = light.run("python", "-c", f"import os; exit(os.system('{light.bin}/longshore {login}') != 0)",
                     folder=tmp_path, **settings)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = light.run("longshore", "export", "users", "-o", "users.csv", folder=tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "users.csv").read_text().startswith("id,")
    done = light.run("longshore", "indexes", "users", folder=tmp_path, **settings)
    assert "phone_number\tkeyword\t" in done.stdout
    code = (
        "from longshore import Longshore\n"
        "with Longshore.from_profile() as client:\n"
        "    task = client.exports.create('users', format='parquet').wait()\n"
        "    print(task.download('.').name)\n"
        "    task.to_arrow()"
    )
    done = light.run("python", "-c", code, folder=tmp_path, **settings)
    assert done.stdout.startswith("User_Export-")
    assert "pip install 'longshore[arrow]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    ["serve", "worker", "api", "migrate", "seed", "demo", "doctor", "catalog check", "token list",
     "user list", "client list", "keys rotate", "secrets rotate"],
)  # fmt: skip
def test_command_that_lacks_its_extra_says_which_to_install(light: Environment, tmp_path: Path, command: str) -> None:
    done = light.run("longshore", *command.split(), folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"longshore: `longshore {command.split(maxsplit=1)[0]}")
    assert done.stderr.endswith(": pip install 'longshore[server]'\n")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_light_install_verifies_checksums_and_names_the_extras_for_signatures_and_rows(
    light: Environment, service: Longshore, tmp_path: Path
) -> None:
    with Client(service.address, service.token(), chain=1764) as client:
        keys = client.request("GET", "/.well-known/longshore-keys.json")
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        for format in FORMATS:
            task = client.exports.create("users", format=format).wait(60)
            task.download(tmp_path / f"users.{format}", manifest=True)
    done = light.run("longshore", "verify", "users.csv", folder=tmp_path)
    assert done.stdout.endswith(": good\n"), done.stderr
    done = light.run("longshore", "verify", "users.parquet", folder=tmp_path)
    assert done.stdout.endswith(": good, rows not counted without pyarrow (pip install 'longshore[arrow]')\n")
    done = light.run("longshore", "verify", "--keys", "keys.json", "users.csv", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "longshore: `longshore verify` needs joserfc, which is not installed: pip install 'longshore[verify]'\n"
    )
    with (tmp_path / "users.csv").open("ab") as file:
        file.write(b"x")
    done = light.run("longshore", "verify", "users.csv", folder=tmp_path)
    assert done.returncode == 1
    assert "bytes, and must have" in done.stderr
