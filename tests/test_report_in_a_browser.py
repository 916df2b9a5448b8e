"""Pages as a browser shows them, from disk: nothing to complain of, every chart there, readable, light and dark."""

import json
import re
import shutil
import subprocess

import pytest
from report_pages import Page, a_run

from lit_l2softmax.reports import run_page, sweep_page
from lit_l2softmax.sweeps import rows

HEAD = {"head": "L2SoftmaxLoss", "classes": 10}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A page around the page, for browsers' own windows cannot be as narrow as a phone; what it sees it leaves in its title.
MEASURE = """<!DOCTYPE html><title></title><body><iframe></iframe><script>
const rgb = (text) => text.startsWith("rgb") ? text.match(/[\\d.]+/g).map(Number) : null;
const luminance = (colour) => {
  const [r, g, b] = colour.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const frame = document.querySelector("iframe");
frame.width = WIDTH; frame.height = 900;
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const style = (one) => view.getComputedStyle(one);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = rgb(style(one).backgroundColor);
      if (colour && (colour[3] ?? 1) === 1) return luminance(colour);
    }
  };
  const contrast = (one, colour) => {
    const [high, low] = [luminance(rgb(colour)), behind(one)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const all = (selector) => [...page.querySelectorAll(selector)];
  document.title = JSON.stringify({
    width: view.innerWidth,
    reach: page.documentElement.scrollWidth,
    dark: behind(page.body) < 0.5,
    sizes: all("svg, img").map((one) => [one.getBoundingClientRect().width, one.getBoundingClientRect().height]),
    letters: all("svg text").map((one) => one.getBoundingClientRect().height),
    texts: all("h1, h2, h3, p, th, td, dd, dt, a, figcaption, pre").map((one) => contrast(one, style(one).color)),
    labels: all("svg text").map((one) => contrast(one, style(one).fill)),
    lines: all("svg path").filter((one) => rgb(style(one).stroke)).map((one) => contrast(one, style(one).stroke)),
  });
};
frame.srcdoc = PAGE;
</script>"""


@pytest.fixture(scope="session")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on this machine")
    return found


def shown(browser, path, *options):
    """The document as the browser has it; it must not have complained of anything, nor reached for the network."""
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={path.parent / 'profile'}",
            "--enable-logging=stderr",
            "--dump-dom",
            *options,
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def pages(tmp_path):
    run = a_run(tmp_path)
    folder = tmp_path / "sweep"
    folder.mkdir()
    found = [
        rows.Row(
            {"head.alpha": f"{alpha}"}, f"{seed}", "alphas", "test/accuracy", 0.9 + alpha / 1e3 + seed / 500, **HEAD
        )
        for alpha in (0.0, 5.0, 16.0)
        for seed in range(3)
    ]
    return run_page.write(run), sweep_page.write(folder, found)


def test_a_page_from_disk_has_every_chart_and_no_complaint(browser, pages):
    for path, charts in zip(pages, (2, 1), strict=True):
        assert len(Page(path).svgs) == charts
        assert shown(browser, path).count("<svg") == charts


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (360, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(360, "light", marks=pytest.mark.slow),
    ],
)
def test_a_page_fits_its_window_and_can_be_read(browser, pages, width, scheme):
    for path in pages:
        around = path.with_name("around.html")
        page = json.dumps(path.read_text()).replace("</", "<\\/")
        around.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", page))
        options = ["--window-size=1400,1000", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
        title = re.search(r"<title>(.*?)</title>", shown(browser, around, "--virtual-time-budget=5000", *options))[1]
        seen = json.loads(title)
        assert seen["dark"] == (scheme == "dark")
        assert seen["width"] == width
        assert seen["reach"] <= width
        assert all(min(size) > 50 for size in seen["sizes"])
        assert min(seen["letters"]) > 8
        assert min(seen["texts"]) > 4.5  # what WCAG 2.1 asks of text
        assert min(seen["labels"]) > 4.5
        assert sum(contrast > 3 for contrast in seen["lines"]) > len(seen["lines"]) / 3  # the rest is the grid
