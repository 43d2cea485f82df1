"""The room's front: light to import, every name there, every decoder built from the command line's word."""

import inspect
import subprocess
import sys

import pytest

import kofn.decode
from kofn.decode.table import DECODERS, decoder_class
from kofn.errors import UsageError


def test_importing_the_room_loads_neither_torch_nor_numba() -> None:
    code = (
        "import sys, kofn.decode; heavy = {'torch', 'numba', 'scipy', 'transformers', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rules_on_numpy_load_no_torch() -> None:
    code = (
        "import sys, numpy as np; from kofn.decode import TopP, Entropy; TopP(0.9).draw(np.arange(5.0), 0, 0); "
        "Entropy()(np.arange(5.0)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", kofn.decode.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(kofn.decode, name)
    assert inspect.getdoc(found)


def test_an_unknown_name_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(AttributeError, match="TopP"):
        _ = kofn.decode.TopQ


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_is_a_value_with_one_verb(name: str) -> None:
    cls = decoder_class(name)
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    names = list(inspect.signature(cls.generate).parameters)
    assert names[:4] == ["self", "model", "prompt", "n"]
    assert "length" in names


def test_an_unknown_decoder_names_its_neighbours() -> None:
    with pytest.raises(UsageError, match="diverse-beam"):
        decoder_class("diverse")
