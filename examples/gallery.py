"""The pages of docs/gallery.md, made anew: `python examples/gallery.py --glosses wordnet-nouns-minilm.parquet`.

Digits and wine come with scikit-learn. The glosses are 20,000 noun glosses of WordNet 3.0 with their all-MiniLM-L6-v2
embeddings (columns word, gloss, lexname, emb); without --glosses that page is left as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import kofn
from kofn.demo import digits


def main() -> None:
    """Choose and write each page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glosses", help="Parquet file of the glosses")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "gallery")
    args = parser.parse_args()
    show("digits", digits()[0], args.out, k=50, method="facility", label="digit", id="id", look={"show": "image"})
    show("wine", wine(), args.out, k=12, method="facility", label="kind")
    if args.glosses:
        look = {"show": "gloss"}
        show(
            "glosses",
            args.glosses,
            args.out,
            k=300,
            method="kmeans",
            label="lexname",
            id="word",
            metric="cosine",
            look=look,
        )


def wine() -> Any:
    """scikit-learn's wine as a pandas table: 13 measured columns and the kind."""
    from sklearn.datasets import load_wine

    wines = load_wine(as_frame=True)
    return wines.data.assign(kind=wines.target_names[wines.target])


def show(name: str, data: Any, out: Path, look: dict[str, str] | None = None, **given: Any) -> None:
    """One selection and its page."""
    selection = kofn.select(data, **given)
    kofn.report(selection, data, out / f"{name}.html", force=True, **(look or {}))
    print(f"{name}:", *str(selection).splitlines(), sep="\n  ")


if __name__ == "__main__":
    main()
