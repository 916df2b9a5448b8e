"""`list`: every shipped experiment, with its system, what it shows and its expected figure."""

from lit_l2softmax.__main__ import main
from lit_l2softmax.commands.list_experiments import FIELDS, head_of
from lit_l2softmax.shipped import names


def test_every_configuration_says_what_it_is():
    assert len(names()) >= 3
    for name in names():
        assert sorted(head_of(name)) == sorted(FIELDS), name


def test_list_prints_them_all(capsys):
    assert main(["list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in names():
        head = head_of(name)
        assert f"{name} (System {head['system']})" in text
        assert head["shows"] in text
        assert head["expected"] in text


def test_list_takes_no_options_but_help(capsys):
    assert main(["list", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m lit_l2softmax list\n")
    assert main(["list", "--verbose"]) == 2
    assert capsys.readouterr().err == "error: list takes no options, got --verbose\n"
