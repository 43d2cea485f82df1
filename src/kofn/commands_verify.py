"""What `kofn verify` does once its arguments are parsed."""

from __future__ import annotations

import json
from typing import Any

from kofn.errors import DataError


def run_verify(subset: str, data: str, *, rerun: bool, as_json: bool, **given: Any) -> None:
    """`kofn verify`: print the levels; a refusal is an error, so that scripts stop at it."""
    from kofn.progress import Progress
    from kofn.verification import verify

    with Progress() as progress:
        verification = verify(subset, data, rerun=rerun, progress=progress, **given)
    print(json.dumps(verification.as_dict(), indent=2, default=str) if as_json else verification)
    if verification.failure is not None:
        level, check = verification.failure
        raise DataError(f"{subset} is refused at level {level}, {check.name}: {check.sentence}")
