"""Run in a process of its own, under a BLAS kernel that OPENBLAS_CORETYPE names: law 2, and picks to compare across kernels.

`python -m properties.kernels [--law]` prints one JSON object: the kernel, which methods broke the law and how, with a planted
one among them, and each method's picks on rows without near ties.
"""

from __future__ import annotations

import json
import sys

from kofn.core.blas import blas_kernel
from properties.instances import INSTANCES
from properties.mutants import MultipliesInOtherShapes
from properties.sameness import laid_out, law_2_layout_and_threads_change_nothing
from properties.worlds import choose, column_sets, gaussian


def main() -> None:
    broken, picks = {}, {}
    with laid_out() as layouts:
        for method in [*(INSTANCES if "--law" in sys.argv else ()), MultipliesInOtherShapes()]:
            try:
                law_2_layout_and_threads_change_nothing(method, layouts, more_columns=False)
            except AssertionError as error:
                broken[repr(method)] = str(error)
    for method in INSTANCES:
        w = gaussian(4_500, 6, seed=11)
        for columns in column_sets(method):
            key = f"{method!r} {sorted(columns)}"
            picks[key] = choose(method, w.items(method, columns), 30, seed=1).indices.tolist()
    json.dump({"kernel": blas_kernel(), "broken": broken, "picks": picks}, sys.stdout)


if __name__ == "__main__":
    main()
