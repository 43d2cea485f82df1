"""HTML by hand: text escaped where it enters, one script and one style, and a policy that lets nothing out."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from contextlib import suppress
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from kofn.page.charts import Chart


def element(tag: str, *inside: str, **attributes: str) -> str:
    """An element around HTML that is escaped already; attributes are escaped here (`css` is the class)."""
    named = "".join(f' {"class" if name == "css" else name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{named}>{''.join(inside)}</{tag}>"


def text(tag: str, content: str, **attributes: str) -> str:
    """An element around plain text; what stands between backticks is code."""
    parts = escape(content, quote=False).split("`")
    if len(parts) % 2:
        content = "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
    else:
        content = "`".join(parts)
    return element(tag, content, **attributes)


def table(heads: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """A table: heads as (text, class of the column), cells as HTML."""
    top = "".join(text("th", head, css=css, scope="col") for head, css in heads)
    body = "".join(
        element("tr", *(element("td", cell, css=css) for cell, (_, css) in zip(row, heads, strict=True)))
        for row in rows
    )
    return element("table", element("thead", element("tr", top)), element("tbody", body))


def document(title: str, body: str, charts: list[Chart]) -> str:
    """The whole page. Scripts are allowed by their digest alone, so that no text of the data can become one."""
    scripts = [runtime(), resource("page.js")] if charts else []
    digests = " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in scripts)
    run = f"{digests} 'unsafe-eval'" if scripts else "'none'"  # Vega turns its expressions into functions
    policy = (
        f"default-src 'none'; script-src {run}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    carried = [{"name": each.name, "renderer": each.renderer, "spec": each.spec, "data": each.data} for each in charts]
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=False)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="generator" content="kofn">',
        text("title", title),
        element("style", resource("page.css")),
    ]
    tail = [f'<script type="application/json" id="charts">{_json(carried)}</script>'] if charts else []
    tail += [f"<script>{each}</script>" for each in scripts]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        element("head", "\n".join(head)),
        f"<body>{body}",
        *tail,
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


_ahead: list[subprocess.Popen[bytes]] = []


def prepare() -> None:
    """Begin to make `runtime` in a process of its own: two seconds of work that nothing else on the page waits for."""
    if not _ahead and not runtime.cache_info().currsize and sys.executable:
        code = "import sys; from kofn.page.html import bundle; sys.stdout.buffer.write(bundle().encode())"
        with suppress(OSError):
            _ahead.append(
                subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )


@cache
def runtime() -> str:
    """Vega with vega-embed, as vl-convert carries them; made here where no other process has."""
    made = _ahead.pop() if _ahead else None
    found = b"" if made is None else made.communicate()[0]
    script = found.decode() if made is not None and made.returncode == 0 and found else bundle()
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def bundle() -> str:
    """The scripts as one."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


@cache
def resource(name: str) -> str:
    """A file that lies beside this module."""
    return files("kofn.page").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    dense = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    return dense.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
