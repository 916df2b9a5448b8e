"""Folders of runs that pages are made of, and a page taken apart."""

import json
from html.parser import HTMLParser

import torch

from lit_l2softmax import mistakes

CONFIG = """\
model:
  class_path: lit_l2softmax.classification.LitClassification
note: a <b> & "quotes"
"""
RESULT = {
    "val/accuracy": 0.9,
    "test/loss": 0.25,
    "test/accuracy": 0.875,
    "test/images": 8.0,
    "data/source": "digits",
    "data/title": "digits <NOT> MNIST",
    "checkpoint": "checkpoints/best.ckpt",
    "selected_by": "val/accuracy",
    "seed": 3,
    "steps": 1500,
    "seconds": 12.25,
    "device": "cpu",
    "versions": "torch 2",
}
METRICS = """\
step,train/loss,train/alpha,val/loss,val/accuracy,val/images,test/loss,test/images
499,2.0,16.0,,,,,
500,,,1.5,0.9,5,,
999,1.0,16.0,,,,,
1000,,,1.25,0.8,5,,
1500,,,,,,0.25,8
"""
NAMES = ["cat", "b<ird", "frog"]


def a_run(folder, name="20260101-000000-abcdef", metrics=METRICS, config=CONFIG, **result):
    """A folder as `fit` leaves it, of eight test images of which three are mistaken; None leaves a figure out."""
    run = folder / "mnist" / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config)
    (run / "metrics.csv").write_text(metrics)
    kept = {key: value for key, value in (RESULT | result).items() if value is not None}
    (run / "result.json").write_text(json.dumps(kept))
    labels, predictions = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 2, 2, 1])
    worst = [mistakes.Mistake("cat", "b<ird", 0.01, mistakes.thumbnail(torch.rand(1, 8, 8)))]
    mistakes.write(run, mistakes.confusion(labels, predictions, NAMES), worst)
    return run


class Page(HTMLParser):
    """A page's elements and texts, after a look at what every page must be: closed, alone, without scripts.

    Attributes:
        links: of its anchors.
        texts: every text that is not of style.
        cells: of each table, its lines.
        svgs: the source of each.
    """

    VOID = ("meta", "link", "img", "br")

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text()
        self.links, self.texts, self.cells, self.ids = [], [], [], []
        self._open = []
        self.feed(self.text)
        self.close()
        assert self._open == []
        assert len(self.ids) == len(set(self.ids))
        self.svgs = ["<svg" + part.partition("</svg>")[0] + "</svg>" for part in self.text.split("<svg")[1:]]
        assert len(self.text.encode()) < 2_000_000

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert tag != "script"
        assert not any(name.startswith("on") for name in given)
        if tag == "a":
            self.links.append(given["href"])
        elif not tag.startswith(("clippath", "use")):
            assert all(given.get(name, "data:").startswith("data:") for name in ("src", "href", "xlink:href"))
        if tag == "img":
            assert given["alt"]
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "table":
            self.cells.append([])
        elif tag == "tr":
            self.cells[-1].append([])
        elif tag in ("th", "td"):
            self.cells[-1][-1].append("")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, text):
        if self._open and self._open[-1] == "style":
            assert "url(" not in text
            return
        self.texts.append(text)
        if "table" in self._open:
            self.cells[-1][-1:] and self.cells[-1][-1][-1:] and self._add(text.strip())

    def _add(self, text):
        self.cells[-1][-1][-1] += text
