from kofn.page.html import document, element, table, text


def test_text_is_escaped_and_backticks_are_code():
    assert text("p", "a < b & `c<d`") == "<p>a &lt; b &amp; <code>c&lt;d</code></p>"
    assert text("p", "one ` alone") == "<p>one ` alone</p>"


def test_attributes_are_escaped():
    assert element("a", "x", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;">x</a>'
    assert element("p", css="soft") == '<p class="soft"></p>'


def test_a_table_has_a_cell_for_every_head():
    head = '<thead><tr><th class="figure" scope="col">n</th></tr></thead>'
    body = '<tbody><tr><td class="figure">1</td></tr></tbody>'
    assert table([("n", "figure")], [["1"]]) == f"<table>{head}{body}</table>"


def test_a_page_without_charts_runs_no_script():
    page = document("a <title>", "<main></main>", [])
    assert "<script" not in page
    assert "<title>a &lt;title&gt;</title>" in page
    assert "script-src 'none'" in page
