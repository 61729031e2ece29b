"""Parts of tensors are those that the whole has; a file that is not whole is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save, save_file

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.tensor_file import TensorFile

DTYPES = (np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8)


def written(path: Path) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(1)
    tensors = {
        np.dtype(dtype).name: (100 * rng.random((4, 3, 2))).astype(dtype) for dtype in DTYPES
    }
    tensors |= {"flat": np.arange(5), "no width": np.zeros((3, 0)), "empty": np.zeros((0, 2))}
    save_file(tensors, path, metadata={"of": "a test"})
    return tensors


def test_all_of_a_tensor_is_what_safetensors_reads(tmp_path: Path) -> None:
    written(tmp_path / "t.safetensors")
    expected = load_file(tmp_path / "t.safetensors")
    file = TensorFile(tmp_path / "t.safetensors")
    assert all(file.read(name).flags.writeable for name in file.names)
    assert set(file.names) == set(expected)
    for name, tensor in expected.items():
        read = file.read(name)
        assert read.dtype == tensor.dtype
        np.testing.assert_array_equal(read, tensor)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensors") / "t.safetensors"


@given(first=st.integers(-1, 5), n=st.integers(-1, 5))
def test_items_are_a_slice_of_the_whole_or_are_said_to_be_missing(
    path: Path, first: int, n: int
) -> None:
    for name, tensor in written(path).items():
        file = TensorFile(path)
        if 0 <= first <= first + n <= len(tensor):
            np.testing.assert_array_equal(
                file.read_items(name, first, n), tensor[first : first + n]
            )
        else:
            with pytest.raises(StoreError, match=r"t\.safetensors is missing or damaged"):
                file.read_items(name, first, n)


@given(st.data())
def test_a_file_that_is_cut_anywhere_is_damaged(path: Path, data: st.DataObject) -> None:
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(StoreError, match=r"t\.safetensors is missing or damaged"):
        TensorFile(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("dtype", "F99"), ("dtype", 3), ("shape", []), ("shape", [-1]), ("shape", "x"),
     ("shape", [7]), ("data_offsets", [0, 7]), ("data_offsets", [0]), ("data_offsets", None)],
)  # fmt: skip
def test_a_header_that_does_not_fit_the_file_is_damage(
    tmp_path: Path, field: str, value: object
) -> None:
    raw = save({"a": np.arange(4)})
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin])
    header["a"][field] = value
    text = json.dumps(header).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[begin:])
    with pytest.raises(StoreError, match=r"t\.safetensors is missing or damaged"):
        TensorFile(path)


def test_a_file_that_is_cut_while_it_is_open_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"a": np.arange(1000)}, path)
    file = TensorFile(path)
    with path.open("r+b") as cut:
        cut.truncate(path.stat().st_size - 8)
    with pytest.raises(StoreError, match=r"t\.safetensors is missing or damaged"):
        file.read("a")
