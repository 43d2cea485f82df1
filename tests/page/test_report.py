import json
import re
import shlex
from base64 import b64encode
from hashlib import sha256
from html import unescape

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist

import kofn
from kofn import encoding
from kofn.cli import main
from kofn.page import atlas, coverage
from kofn.page.words import about, number
from page.reading import Page, blobs, printed

NASTY = "</script><script>alert(1)</script>"


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
    sections = ["headline", "map-section", "picks", "lost", "enough-section", "shares", "weights", "method"]
    assert [name for name in ids if name in sections] == sections
    assert [each["name"] for each in page.charts] == ["map", "within", "enough", "shares0", "weighing"]
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
    _, _, table = page.text.partition("least covered row distance nearest pick ")
    assert table.startswith(f"row {row} · r{row} · ")
    assert f" {number(apart[row].min())} row {pick} · r{pick} · " in table[:200]


def test_the_command_on_the_page_gives_the_same_picks(page, folder, capsys):
    words = shlex.split(printed(page, "again"))
    assert words[:2] == ["kofn", "select"]
    again = folder / "again.parquet"
    words[words.index("--out") + 1] = str(again)
    del words[words.index("--report") : words.index("--report") + 2]
    assert main(words[1:]) == 0
    assert again.read_bytes() == (folder / "subset.parquet").read_bytes()


def test_the_check_on_the_page_passes(page, capsys):
    words = shlex.split(printed(page, "check"))
    assert words[:2] == ["kofn", "verify"]
    assert main(words[1:]) == 0


def test_the_same_selection_gives_the_same_bytes(folder, data):
    selection = kofn.select(data, k=8, method="uniform", label="kind")
    path, pages = folder / "twice.html", []
    for threads in (1, 2):
        kofn.report(selection, data, path, threads=threads, force=True)
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_200000_rows_and_100000_picks_stay_small_and_are_drawn_in_part(folder, monkeypatch):
    monkeypatch.setattr(coverage, "WORK", 1e9)  # 2,000 rows are measured: the page is no larger for more
    monkeypatch.setattr(coverage, "SEEDS", 2)
    texts = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(200_000) % 100), [chr(0x4E00 + at) * 300 for at in range(100)]
    )
    x = np.random.default_rng(0).normal(size=(200_000, 2)).astype(np.float32)
    data = pa.table({"text": texts, "emb": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 2)})
    kofn.report(kofn.select(data, k=100_000, method="uniform"), data, folder / "large.html")
    page = Page(folder / "large.html")
    assert len(page.bytes) < 5_000_000
    assert len(page.data("map", "picks")["row"]) == 2_000
    assert len(page.data("map", "whole")["row"]) + len(page.data("map", "held").get("row", [])) <= 4_000
    assert max(map(len, page.data("map", "picks")["text"])) <= 200
    assert "measured on 2,000 of the 200,000 rows, chosen by row hash" in page.text


def test_a_table_without_embeddings_has_no_map_and_no_distances(folder):
    table = pa.table({"wage": [5.0, 1.0, 4.0, 2.0, 3.0, 6.0], "town": ["a", "b", "b", "a", "b", "c"]})
    selection = kofn.select(table, k=2, method="top", score="wage")
    kofn.report(selection, table, folder / "table.html", label="town")
    page = Page(folder / "table.html")
    ids = [attrs.get("id") for _, attrs in page.tags]
    assert "map" not in ids
    assert "enough-section" not in ids
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


# rows as people know them


@pytest.fixture(scope="module")
def looks(folder):
    """A table with everything that rows can be known by, a selection of it in a file, and its Python self."""
    x, labels = blobs(300)
    pixels = np.round(np.abs(x[:, :4]))
    data = pa.table(
        {
            "name": [f"n{at}" for at in range(300)],
            "words": [f"row number {at} of <all>" for at in range(300)],
            "kind": np.array(["low", "high", "rare"])[labels],
            "across": x[:, 0],
            "up": x[:, 1],
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 5),
            "pixels": pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), 4),
        }
    )
    pq.write_table(data, folder / "looks.parquet")
    given = ["--embedding", "emb", "--method", "kcenter", "--label", "kind", "--out", str(folder / "looks.out.parquet")]
    assert main(["select", str(folder / "looks.parquet"), "-k", "40", *given]) == 0
    return data, kofn.load(str(folder / "looks.out.parquet"))


def cards(page):
    """The texts of the cards of the picks, in order."""
    body = page.bytes.decode().partition('<section id="picks">')[2].partition("</section>")[0]
    stripped = [re.sub(r"<[^>]+>", " ", unescape(card)) for card in body.split("<li>")[1:]]
    return [" ".join(card.split()) for card in stripped]


def test_the_picks_are_shown_by_weight_and_by_rank_with_the_farthest_row_each(looks, folder):
    data, selection = looks
    kofn.report(selection, data, folder / "words.html", embedding="emb")
    found = cards(Page(folder / "words.html"))
    assert len(found) == 48
    order = np.argsort(-selection.weights, kind="stable")[:24]
    x = np.asarray(data["emb"].combine_chunks().flatten()).reshape(300, 5)
    apart = cdist(x, x[selection.indices])
    for card, at in zip(found, [*order, *range(24)], strict=True):
        row, weight = int(selection.indices[at]), int(selection.weights[at])
        assert card.startswith(f"row number {row} of ")
        assert f"stands for {weight} row" in card
        mine = np.setdiff1d(np.flatnonzero(apart.argmin(axis=1) == at), [row])
        if len(mine):
            far = int(mine[apart[mine, at].argmax()])
            assert f"farthest of the rows nearest to it, {number(apart[far, at])} away row number {far} of " in card
        else:
            assert "the farthest" not in card


def test_a_click_can_find_the_rows_that_every_pick_stands_for(looks, folder):
    data, selection = looks
    kofn.report(selection, data, folder / "click.html", embedding="emb")
    page = Page(folder / "click.html")
    whole, x = page.data("map", "whole"), np.asarray(data["emb"].combine_chunks().flatten()).reshape(300, 5)
    nearest = selection.indices[cdist(x[whole["row"]], x[selection.indices]).argmin(axis=1)]
    assert whole["near"] == nearest.tolist()
    spec = next(each["spec"] for each in page.charts if each["name"] == "map")
    assert [signal["value"] for signal in spec["signals"] if signal["name"] == "lit"] == [-1]
    assert json.dumps(spec).count("=== lit") >= 3
    assert "lit" in {attrs.get("id") for _, attrs in page.tags}


def test_pictures_are_carried_by_the_page(looks, folder):
    data, selection = looks
    kofn.report(selection, data, folder / "pictures.html", embedding="emb", show="pixels")
    page = Page(folder / "pictures.html")
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) > 48 + 24
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(source.startswith("data:image/png") for source in page.data("map", "picks")["picture"])
    assert {tag for tag, attrs in page.tags if "src" in attrs} == {"img"}


def test_the_report_of_a_written_selection_is_that_of_the_run(looks, folder, capsys):
    data, out = str(folder / "looks.parquet"), str(folder / "looks.out.parquet")
    page = folder / "same.html"
    given = ["--embedding", "emb", "--method", "kcenter", "--label", "kind", "--out", out, "--report", str(page)]
    look = ["--show", "words", "--layout", "across,up"]
    assert main(["select", data, "-k", "40", *given, *look, "--force"]) == 0
    first = page.read_bytes()
    assert main(["report", out, data, "--out", str(page), *look]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["report", out, data, "--out", str(page), *look, "--force", "--json"]) == 0
    assert page.read_bytes() == first
    told = json.loads(capsys.readouterr().out)
    assert {name: told[name] for name in ("out", "subset", "data")} == {"out": str(page), "subset": out, "data": data}
    words = shlex.split(printed(Page(page), "again"))
    assert words[words.index("--show") + 1] == "words"
    assert words[words.index("--layout") + 1] == "across,up"


def test_a_page_that_could_not_be_drawn_stops_the_run_before_it_begins(looks, tmp_path, folder, capsys):
    data, out = str(folder / "looks.parquet"), str(tmp_path / "o.parquet")
    for look, words in (
        (["--show", "nope", "--report", str(tmp_path / "p.html")], "show='nope' is not a column"),
        (["--layout", "across,nope", "--report", str(tmp_path / "p.html")], "layout='nope' is not a column"),
        (["--layout", "umap", "--report", str(tmp_path / "p.html")], "layout 'umap' is unknown"),
        (["--show", "words"], "--show is about the page; add --report page.html"),
        (["--layout", "pca"], "--layout is about the page"),
    ):
        assert main(["select", data, "-k", "3", "--embedding", "emb", "--out", out, *look]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_table_without_an_embedding_is_shown_by_its_features(folder):
    rng = np.random.default_rng(0)
    data = pa.table({"age": rng.normal(40, 9, 200), "wage": rng.normal(3000, 500, 200), "sex": ["f", "m"] * 100})
    selection = kofn.select(data, k=8, label="sex")
    kofn.report(selection, data, folder / "features.html")
    page = Page(folder / "features.html")
    row = int(selection.indices[selection.weights.argmax()])
    assert cards(page)[0].startswith(
        f"age {data['age'][row].as_py():.6g}, wage {data['wage'][row].as_py():.6g} row {row} · f"
    )
    z = np.column_stack([(v := np.asarray(data[name])) - v.mean() for name in ("age", "wage")])
    z /= z.std(axis=0)
    mean = cdist(z, z[selection.indices]).min(axis=1).mean()
    assert f"On average a row is {number(mean)} away from its nearest pick." in page.text
    assert "over 2 columns that were standardised or one-hot" in page.text
    assert "features=['age', 'wage']" in printed(page, "again")


def test_what_to_be_warned_of_is_said(folder):
    x = np.concatenate([np.zeros((90, 2)), np.random.default_rng(0).normal(50, 5, (10, 2))]).astype(np.float32)
    kofn.report(kofn.select(x, k=5, method="kcenter"), x, folder / "warned.html")
    page = Page(folder / "warned.html")
    assert "1 pick stands for 90\u00a0% of the rows." in unescape(page.bytes.decode())
    assert "89 of the 100 rows are exact duplicates of an earlier one; each copy counts as a row." in page.text


def test_the_method_is_told_with_its_limits(page):
    assert "When not to use it. When k is close to n" in page.text
    assert "Guarantee." in page.text
    assert 'subset["kofn_weight"]' in page.text


def test_texts_that_became_the_vectors_are_what_rows_are_known_by(tmp_path, monkeypatch):
    def lengths(texts):
        return np.array([[len(text), text.count("a")] for text in texts], np.float32)

    monkeypatch.setattr(encoding, "_Model", lambda name: lengths)
    data = pa.table({"n": range(60), "story": [("a" * (at % 7) + "b" * at) or "-" for at in range(60)]})
    selection = kofn.select(data, k=6, text="story", model="m", cache=str(tmp_path / "cache"))
    kofn.report(selection, data, tmp_path / "texts.html")
    page = Page(tmp_path / "texts.html")
    rows = page.data("map", "picks")["row"]
    assert page.data("map", "picks")["story"] == [data["story"][row].as_py() for row in rows]
    assert f"text='story', model='m', cache='{tmp_path / 'cache'}'" in printed(page, "again")
