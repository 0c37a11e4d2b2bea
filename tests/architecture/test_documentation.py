"""The docs are under test: a command without documentation fails the suite."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli import app

ROOT = Path(__file__).parents[2]


def commands(group: "typer.core.TyperGroup", prefix: str = "") -> "dict[str, typer.core.TyperCommand]":
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


COMMANDS = commands(typer.main.get_command(app))  # type: ignore[arg-type]


def test_the_promised_commands_exist() -> None:
    promised = (
        "run train compress evaluate promote rollback history package serve predict up down status doctor catalog"
    )
    assert set(promised.split()) <= set(COMMANDS)
    assert any(name.startswith("data ") for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_and_takes_json(name: str) -> None:
    command = COMMANDS[name]
    assert "Example: roadworthy" in (command.help or "")
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_documentation(name: str) -> None:
    documents = (ROOT / "README.md").read_text() + (ROOT / "flows" / "README.md").read_text()
    assert f"roadworthy {name}" in documents


SHOWN = re.findall(r"^\$ \.venv/bin/roadworthy (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_tour_shows_commands() -> None:
    assert len(SHOWN) > 8


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_of_the_tour_is_one_that_is_taken(line: str) -> None:
    words = shlex.split(line, comments=True)
    name = next(name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS)
    COMMANDS[name].make_context(name, words[len(name.split()) :])  # parses, and runs nothing
