"""One sample gets the class that it has in the test set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_neuro.data import load_dataset
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.compiled_network import load_compiled
from esl_neuro.pipeline.prediction import predict_sample

EXPORT = Path(__file__).parent / "written_by_0_1_0" / "loihi2"


@pytest.fixture(scope="module")
def expected():
    """The trace of the test set, and its samples."""
    chip = load_compiled(EXPORT)
    return chip.run(chip.test_set(20)).trace, load_dataset("digits").test.values[:20]


def test_each_sample_alone_has_class_scores_and_spikes_of_the_test_set(expected, tmp_path):
    trace, samples = expected
    for number, sample in enumerate(samples):
        np.save(tmp_path / "a.npy", sample)
        found = predict_sample(EXPORT, tmp_path / "a.npy")
        assert found.predicted == trace.predictions()[number]
        assert found.scores == trace.scores()[number].tolist()
        assert found.tie == trace.ties()[number]
        for name, fired in trace.spikes.items():
            assert found.spikes[name] == fired[number].sum()
        assert found.spikes["input"] == trace.input_spikes[number].sum()


def test_csv_and_images_are_read_as_arrays_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "f.npy", (pixels / np.float32(255)).astype(np.float32))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / "colour.png")
    rows = [",".join(map(repr, (row / np.float32(255)).tolist())) for row in pixels]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    found = [predict_sample(EXPORT, tmp_path / name) for name in ("a.npy", "f.npy", "a.png", "colour.png", "a.csv")]
    assert len({json.dumps([each.scores, each.spikes]) for each in found}) == 1
    assert found[2].read_as == "image of 8 x 8 pixels, grey, divided by 255"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(63, np.float32), "has 63 values"),
        (np.full(64, 16.0), "values from 16 to 16; the network was trained on values from 0 to 1"),
        (np.arange(64), "is int64; give pixels as uint8"),
        (np.eye(8, dtype=np.uint8), "without a value above 1"),
        (np.full(64, np.nan), "not finite numbers"),
    ],
)
def test_a_sample_that_could_be_misread_is_refused(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(BadInput, match=message):
        predict_sample(EXPORT, tmp_path / "a.npy")


def test_other_files_and_networks_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a, b")
    with pytest.raises(BadInput, match="is not numbers separated by commas"):
        predict_sample(EXPORT, tmp_path / "a.csv")
    with pytest.raises(BadInput, match="has no encoding of samples"):
        predict_sample(EXPORT / "model.nir", tmp_path / "a.csv")
    shutil.copytree(EXPORT, tmp_path / "other")
    document = json.loads((tmp_path / "other/export.json").read_text()) | {"data": None}
    (tmp_path / "other/export.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match="data set that it was trained for is unknown"):
        predict_sample(tmp_path / "other", tmp_path / "a.csv")
