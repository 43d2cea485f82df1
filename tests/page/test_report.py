import json
import shlex
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist

import kofn
from kofn.cli import main
from kofn.page import atlas
from kofn.page.words import about, number

NASTY = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """Elements with their attributes, and the text of those that have an id or stand alone."""

    def __init__(self, path):
        super().__init__()
        self.bytes = path.read_bytes()
        self.tags, self.scripts, self.words, self._inside = [], [], [], None
        self.feed(self.bytes.decode())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            attrs, before = self.scripts.pop()
            self.scripts.append((attrs, before + data))
        elif self._inside != "style":
            self.words.append(data)

    @property
    def charts(self):
        return json.loads(next(body for attrs, body in self.scripts if attrs.get("id") == "charts"))

    def data(self, chart, name):
        return next(each["data"][name] for each in self.charts if each["name"] == chart)


def blobs(n=600, d=5, seed=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (rng.normal(size=(n, d)) + 6 * labels[:, None]).astype(np.float32), labels


@pytest.fixture(scope="module", autouse=True)
def few_landmarks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas, "LANDMARKS", 30)  # t-SNE takes most of a page's time
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def data(folder):
    x, labels = blobs()
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    names = np.array(["low", "high", NASTY])[labels]
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(len(x))], "kind": names, "emb": column}), path)
    return path


@pytest.fixture(scope="module")
def page(folder, data):
    out, path = folder / "subset.parquet", folder / "page.html"
    given = ["--method", "kmeans", "--set", "rounds=7", "--label", "kind", "--id", "id", "--seed", "2"]
    assert main(["select", str(data), "-k", "30", *given, "--out", str(out), "--report", str(path)]) == 0
    return Page(path)


def test_the_page_loads_nothing(page):
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert {tag for tag, attrs in page.tags if "href" in attrs} == {"a"}
    style = page.bytes.decode().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_lets_nothing_out_and_only_the_pages_own_scripts_run(page):
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    run = [body for attrs, body in page.scripts if attrs.get("type") != "application/json"]
    digests = {f"'sha256-{b64encode(sha256(body.encode()).digest()).decode()}'" for body in run}
    assert rules["default-src"] == "'none'"
    assert set(rules["script-src"].split()) == digests | {"'unsafe-eval'"}
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"


def test_a_label_that_is_a_script_stays_text(page):
    assert len(page.scripts) == 3
    assert NASTY in page.data("shares0", "shares")["name"]
    assert NASTY in page.text


def test_sections_come_in_order_and_every_chart_has_its_place(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    sections = ["headline", "map-section", "coverage", "enough-section", "weights", "shares", "method"]
    assert [name for name in ids if name in sections] == sections
    assert [each["name"] for each in page.charts] == ["map", "within", "enough", "weighing", "shares0"]
    assert {each["name"] for each in page.charts} <= set(ids)


def test_the_headline_gives_the_numbers_that_brute_force_finds(page):
    x, _ = blobs()
    apart = cdist(x, x)

    def mean(rows):
        return apart[:, rows].min(axis=1).mean()

    def at_random(k):
        seeds = [0, 1, 3, 4, 5]  # not 2, the selection's own
        return [mean(kofn.select(x, k=k, method="uniform", seed=seed).indices) for seed in seeds]

    picks = kofn.select(x, k=30, method="kmeans", rounds=7, seed=2).indices
    random = at_random(30)
    sizes = [4, 8, 15, 30, 60, 120]
    ladder = np.array([np.mean(at_random(k)) for k in sizes])
    matched = np.exp(np.interp(-mean(picks), -ladder, np.log(sizes)))
    assert f"30 of 600 rows stand for the rest as well as about {about(matched)} chosen at random." in page.text
    assert f"On average a row is {number(mean(picks))} away from its nearest pick." in page.text
    assert f"With 30 random rows it is {number(np.mean(random))}" in page.text
    assert f"{number(min(random))} to {number(max(random))}" in page.text
    assert f"any pick {number(apart[:, picks].min(axis=1).max())} " in page.text
    np.testing.assert_allclose(page.data("enough", "random")["mean"], ladder, rtol=1e-4)


def test_the_least_covered_rows_are_the_farthest(page):
    x, _ = blobs()
    picks = kofn.select(x, k=30, method="kmeans", rounds=7, seed=2).indices
    apart = cdist(x, x[picks])
    row = int(apart.min(axis=1).argmax())
    pick = int(picks[apart[row].argmin()])
    _, _, table = page.text.partition("row distance nearest pick ")
    assert table.startswith(f"{row} r{row} ·")
    assert f"{number(apart[row].min())} {pick} r{pick} ·" in table.partition(" · ")[2]


def test_the_command_on_the_page_gives_the_same_picks(page, folder, capsys):
    html = page.bytes.decode()
    command = html.partition("<pre>")[2].partition("</pre>")[0].replace("&amp;", "&")
    words = shlex.split(command)
    assert words[:2] == ["kofn", "select"]
    again = folder / "again.parquet"
    words[words.index("--out") + 1] = str(again)
    del words[words.index("--report") : words.index("--report") + 2]
    assert main(words[1:]) == 0
    assert again.read_bytes() == (folder / "subset.parquet").read_bytes()


def test_the_check_on_the_page_passes(page, capsys):
    body = page.bytes.decode().partition("</main>")[0]
    words = shlex.split(body.rpartition("<pre>")[2].partition("</pre>")[0])
    assert words[:2] == ["kofn", "verify"]
    assert main(words[1:]) == 0


def test_the_same_selection_gives_the_same_bytes(folder, data):
    selection = kofn.select(data, k=8, method="uniform", label="kind")
    path, pages = folder / "twice.html", []
    for threads in (1, 2):
        kofn.report(selection, data, path, threads=threads, force=True)
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_60000_rows_and_5000_picks_stay_small_and_are_drawn_in_part(folder):
    x = np.random.default_rng(0).normal(size=(60_000, 3)).astype(np.float32)
    kofn.report(kofn.select(x, k=5_000, method="uniform"), x, folder / "large.html")
    page = Page(folder / "large.html")
    assert len(page.bytes) < 5_000_000
    assert len(page.data("map", "picks")["row"]) == 2_000
    assert len(page.data("map", "whole")["row"]) + len(page.data("map", "held").get("row", [])) <= 4_000
    assert "measured on 20,000 of the 60,000 rows, chosen by row hash" in page.text


def test_a_table_without_embeddings_has_no_map_and_no_distances(folder):
    table = pa.table({"wage": [5.0, 1.0, 4.0, 2.0, 3.0, 6.0], "town": ["a", "b", "b", "a", "b", "c"]})
    selection = kofn.select(table, k=2, method="top", score="wage")
    kofn.report(selection, table, folder / "table.html", label="town")
    page = Page(folder / "table.html")
    ids = [attrs.get("id") for _, attrs in page.tags]
    assert "map" not in ids
    assert "coverage" not in ids
    assert "2 of 6 rows, chosen by top." in page.text
    assert "1 of 3 values of town has no pick: b." in page.text
    assert page.data("shares0", "shares")["name"] == ["b", "c", "a"]


def test_rows_in_have_cover_and_random_rows_have_them_too(folder):
    x, _ = blobs(200)
    have = np.arange(0, 200, 9)
    selection = kofn.select(x, k=5, method="kmeans", have=have)
    kofn.report(selection, x, folder / "have.html", have=have)
    page = Page(folder / "have.html")
    apart = cdist(x, x)
    ours = apart[:, np.concatenate([selection.indices, have])].min(axis=1).mean()
    draws = [kofn.select(x, k=5, method="uniform", have=have, seed=seed).indices for seed in range(1, 6)]
    random = np.mean([apart[:, np.concatenate([rows, have])].min(axis=1).mean() for rows in draws])
    assert (
        f"On average a row is {number(ours)} away from the nearest of the picks and the 23 rows you had." in page.text
    )
    assert f"With 5 random rows it is {number(random)} " in page.text
    assert sorted(page.data("map", "held")["row"]) == have.tolist()


def test_rows_that_cannot_be_measured_are_left_out_and_said(folder):
    x, _ = blobs(300)
    x[7, 2], x[11] = np.nan, np.inf
    selection = kofn.select(x, k=6, method="uniform", seed=1)
    kofn.report(selection, x, folder / "nan.html")
    page = Page(folder / "nan.html")
    sound = np.setdiff1d(np.arange(300), [7, 11])
    apart = cdist(x[sound], x[np.intersect1d(selection.indices, sound)]).min(axis=1)
    assert f"On average a row is {number(apart.mean())} away from its nearest pick." in page.text
    assert "2 rows hold NaN, infinity or null; distances leave them out." in page.text


def test_a_method_of_ones_own_gets_a_page(folder):
    class Firsts(kofn.Method):
        """The first rows."""

        name = "firsts"
        summary = "the first k rows"

        def select(self, items, k, rng):
            return kofn.Selection(indices=np.arange(k), weights=np.full(k, items.n / k))

    items = kofn.Items(embeddings=blobs(50)[0], labels=np.arange(50) % 2, ids=np.arange(50) + 900)
    kofn.report(Firsts().select(items, 4, kofn.Rng(0)), items, folder / "own.html")
    page = Page(folder / "own.html")
    assert "4 of 50 rows" in page.text
    assert page.data("map", "picks")["id"] == ["900", "901", "902", "903"]


@pytest.mark.parametrize("name", ["missing/page.html", "page.txt", "there.html", "."])
def test_a_report_that_cannot_be_written_stops_the_run_before_it_begins(name, data, tmp_path, capsys):
    (tmp_path / "there.html").write_text("mine")
    before = sorted(tmp_path.iterdir())
    out = str(tmp_path / "subset.parquet")
    assert main(["select", str(data), "-k", "3", "--out", out, "--report", str(tmp_path / name)]) == 2
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.html").read_text() == "mine"
    assert capsys.readouterr().err.startswith("error: ")


def test_mistakes_are_named(tmp_path):
    x, labels = blobs(40)
    selection = kofn.select(x, k=4, method="uniform", group=labels)
    path = tmp_path / "page.html"
    with pytest.raises(kofn.KofnError, match=r"group was an array .* give it again"):
        kofn.report(selection, x, path)
    with pytest.raises(kofn.KofnError, match="among 40 rows, this data has 39"):
        kofn.report(selection, x[:39], path, group=labels[:39])
    with pytest.raises(kofn.KofnError, match="label='kind' is a column's name, but the data is an array"):
        kofn.report(selection, x, path, group=labels, label="kind")
    with pytest.raises(kofn.KofnError, match="have was given beside ready Items"):
        kofn.report(selection, kofn.Items(embeddings=x), path, have=[1])
    assert not path.exists()
