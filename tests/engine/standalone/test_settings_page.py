"""`python -m mixgrpo_engine settings` is docs/settings.md."""

from pathlib import Path

from mixgrpo_engine import __main__ as command
from mixgrpo_engine.config import SETTINGS

STORED = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def test_the_stored_page_is_what_the_command_prints(capsys):
    assert command.main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert STORED.read_text(encoding="utf-8") == printed, "run `python -m mixgrpo_engine settings > docs/settings.md`"
    for each in SETTINGS:
        assert f"**{each.field}**" in printed and each.tooltip in printed
