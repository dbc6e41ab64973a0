"""What only the owner of the server decides: from the environment or a file, and never from a damaged one."""

import json

import pytest

NAMES = ("downloads", "judge_hosts", "judge_key")


@pytest.fixture
def settings(room, tmp_path, monkeypatch):
    """The module, with an empty user folder and environment."""
    import folder_paths

    module = room("nodes.owner_settings")
    for variable in module.VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    return module


def write(settings, values):
    settings.path().write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")


def test_by_default_nothing_is_allowed(settings):
    assert set(NAMES) <= settings.VARIABLES.keys()
    assert [settings.text(name) for name in NAMES] == ["", "", ""]
    assert settings.words("judge_hosts") == [] and not settings.allowed("downloads")


def test_the_file_says_it(settings, tmp_path):
    assert settings.path() == tmp_path / "mixgrpo.json"
    write(settings, {"downloads": True, "judge_hosts": ["a:1", " b "], "judge_key": " sk-1 "})
    assert settings.allowed("downloads") and settings.words("judge_hosts") == ["a:1", "b"]
    assert settings.text("judge_key") == "sk-1"
    write(settings, {"judge_hosts": "a:1, b,"})
    assert settings.words("judge_hosts") == ["a:1", "b"]


def test_the_environment_wins_even_when_it_is_empty(settings, monkeypatch):
    write(settings, {"judge_hosts": ["file"], "downloads": True})
    monkeypatch.setenv("MIXGRPO_JUDGE_HOSTS", "one:1, other")
    assert settings.words("judge_hosts") == ["one:1", "other"] and settings.allowed("downloads")
    monkeypatch.setenv("MIXGRPO_JUDGE_HOSTS", "")
    monkeypatch.setenv("MIXGRPO_DOWNLOADS", "")
    assert settings.words("judge_hosts") == [] and not settings.allowed("downloads")


@pytest.mark.parametrize("value", ["1", "true", "Yes", "ON", True, 1])
def test_yes(settings, value):
    write(settings, {"downloads": value})
    assert settings.allowed("downloads")


@pytest.mark.parametrize("value", ["0", "false", "no", "", "maybe", False, None, 0, []])
def test_no(settings, value):
    write(settings, {"downloads": value})
    assert not settings.allowed("downloads")


def test_a_file_with_a_mark_of_utf8_is_read(settings):
    write(settings, "\ufeff" + json.dumps({"judge_key": "k"}))
    assert settings.text("judge_key") == "k"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000, "\x00"])
def test_a_damaged_file_is_one_sentence_with_its_path(settings, text):
    write(settings, text)
    with pytest.raises(ValueError, match="mend or remove it") as error:
        settings.text("judge_hosts")
    assert str(settings.path()) in str(error.value)


def test_a_file_of_other_bytes_is_one_sentence(settings):
    settings.path().write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="mend or remove it"):
        settings.text("judge_key")


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [None], 1.5, [True]])
def test_a_value_of_another_kind_is_refused_without_telling_it(settings, value):
    write(settings, {"judge_key": value})
    with pytest.raises(ValueError, match="judge_key in .* must be a text or a list of texts"):
        settings.text("judge_key")


def test_a_misspelt_setting_is_told(settings):
    write(settings, {"judge_host": ["a"]})
    with pytest.raises(ValueError, match="'judge_host', which is no setting: the settings are downloads, judge_hosts"):
        settings.words("judge_hosts")


def test_no_message_tells_a_key(settings):
    write(settings, '{"judge_key": "sk-secret",}')
    with pytest.raises(ValueError) as error:
        settings.text("judge_key")
    assert "secret" not in str(error.value)


def test_the_version_changes_with_the_file(settings):
    before = settings.version()
    write(settings, {"judge_hosts": ["a"]})
    between = settings.version()
    write(settings, {"judge_hosts": ["a", "b"]})
    assert len({before, between, settings.version()}) == 3


def test_how_to_set_names_variable_and_file(settings):
    assert "MIXGRPO_JUDGE_HOSTS" in settings.how_to_set("judge_hosts")
    assert "judge_hosts in mixgrpo.json" in settings.how_to_set("judge_hosts")


@pytest.mark.parametrize("value, told", [(None, 30.0), (5, 5.0), ("2.5", 2.5), (" 90 ", 90.0)])
def test_a_time_is_in_seconds(settings, value, told):
    write(settings, {"stop_seconds": value})
    assert settings.seconds("stop_seconds", 30.0) == told


@pytest.mark.parametrize("value", ["soon", 0, -1, "nan", "inf", 100_000])
def test_what_is_no_time_is_one_sentence(settings, value):
    write(settings, {"stop_seconds": value})
    with pytest.raises(ValueError, match=r"stop_seconds is '.*': set it to seconds above 0, 86400 at most"):
        settings.seconds("stop_seconds", 30.0)


@pytest.mark.parametrize("value, told", [(None, 1), (4, 4), ("2", 2), (64, 64)])
def test_a_number_of_workers(settings, value, told):
    write(settings, {"workers": value})
    assert settings.count("workers", 1, 64) == told


@pytest.mark.parametrize("value", ["all", 0, -1, "1.5", 65, "\u00b2", "9" * 40])
def test_what_is_no_number_of_workers_is_one_sentence(settings, value):
    write(settings, {"workers": value})
    with pytest.raises(ValueError, match=r"workers is '.*': set it to a whole number, 1 to 64 \(the environment"):
        settings.count("workers", 1, 64)
