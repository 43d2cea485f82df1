"""What a notebook shows of a selection."""

import re
from html.parser import HTMLParser

import numpy as np

import kofn
from kofn import Selection


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag != "rect":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)


def test_the_card_says_what_print_says_and_is_well_formed():
    x = np.random.default_rng(0).normal(size=(300, 3))
    selection = kofn.select(x, 20, method="kmeans")
    html = selection._repr_html_()
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen.count("rect") == 20
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "20 of 300 rows by kmeans, seed 0" in text
    assert "and 12 more" in text


def test_names_of_rows_are_text_not_markup():
    selection = Selection(indices=np.array([3]), weights=np.ones(1), ids=np.array(["<script>alert(1)</script>"]))
    html = selection._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_many_weights_are_drawn_by_their_quantiles():
    k = 50_000
    selection = Selection(indices=np.arange(k), weights=np.arange(k, 0, -1.0))
    html = selection._repr_html_()
    assert len(html) < 20_000
    assert "from 50,000 rows down to 1" in html
