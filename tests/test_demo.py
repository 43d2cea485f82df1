"""kofn demo: what it says, what it leaves behind, and that it asks before it writes again."""

import json

import kofn
from kofn import demo
from kofn.cli import main


def test_the_demo_shows_the_digits_that_it_chose(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "LADDER", (50, 150))
    assert main(["demo"]) == 0
    said = capsys.readouterr().out
    assert "See them: open kofn-demo/report.html" in said
    assert "50 of 1,797 digits stand for the rest as well as about 150 chosen at random" in said
    assert sorted(path.name for path in (tmp_path / "kofn-demo").iterdir()) == [
        "digits.parquet", "report.html", "subset.parquet",
    ]  # fmt: skip
    page = (tmp_path / "kofn-demo" / "report.html").read_text()
    assert page.count('<img src="data:image/png;base64,') > 48 + 24
    assert len(page) < 5_000_000
    assert kofn.load("kofn-demo/subset.parquet").provenance["method"] == "facility"
    assert main(["demo"]) == 2
    assert "kofn-demo/subset.parquet exists; run kofn demo --force" in capsys.readouterr().err
    assert main(["demo", "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["report"], told["enough"]) == ("kofn-demo/report.html", 150)
