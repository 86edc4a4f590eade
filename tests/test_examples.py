"""The examples in docs/ run, and say what their pages say."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def run(name, picture):
    command = [sys.executable, str(EXAMPLES / name), str(picture)]
    return subprocess.check_output(command, text=True, timeout=300)


def test_a_picture_in_64_colours(tmp_path):
    said = run("colours.py", tmp_path / "colours.jpg")
    fitted, drawn = map(float, re.findall(r"([\d.]+) off", said))
    assert fitted < 0.7 * drawn
    assert (tmp_path / "colours.jpg").stat().st_size > 10_000


def test_digits_as_bags_of_words(tmp_path):
    said = run("words.py", tmp_path / "words.png")
    few, many, held_back = map(float, re.findall(r"0\.\d+", said))
    assert few < many
    assert held_back > 0.93
    assert (tmp_path / "words.png").stat().st_size > 5_000
