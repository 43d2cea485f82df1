"""Pages taken apart: elements, texts, charts and the commands that they print."""

import json
from html import unescape
from html.parser import HTMLParser

import numpy as np


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


def printed(page, name):
    return unescape(page.bytes.decode().partition(f'<pre id="{name}">')[2].partition("</pre>")[0])


def blobs(n=600, d=5, seed=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (rng.normal(size=(n, d)) + 6 * labels[:, None]).astype(np.float32), labels
