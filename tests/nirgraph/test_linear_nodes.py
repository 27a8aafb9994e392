"""Nodes without state: what each one means, and every contradiction by its kind and its numbers."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch

from esl_neuro.nirgraph.linear_maps import apply
from esl_neuro.nirgraph.linear_nodes import Unsupported, floats, linear_node, spread, whole_numbers

DT_S = 1e-3


def conv(out=2, per_group=1, taps=(3, 3), stride=1, padding=0, dilation=1, groups=1, bias=None, input_shape=None):
    bias = np.zeros(out) if bias is None else np.asarray(bias, dtype=float)
    return nir.Conv2d(input_shape, np.ones((out, per_group, *taps)), stride, padding, dilation, groups, bias)


def pool(kind=nir.SumPool2d, kernel=(2, 2), stride=(2, 2), padding=(0, 0)):
    return kind(np.array(kernel), np.array(stride), np.array(padding))


def delay(*seconds):
    return nir.Delay(np.array(seconds))


def flatten(start, end):
    return nir.Flatten({"input": np.array([2, 3, 4])}, start, end)


def changed(node, **fields):
    for name, value in fields.items():
        setattr(node, name, value)
    return node


@pytest.mark.parametrize(
    ("node", "shape", "kind", "said"),
    [
        (
            changed(nir.Linear(np.ones((1, 3))), weight=np.ones(3)),
            (3,),
            "shape-mismatch",
            "weight has 1 dimension; expected 2: (outputs, inputs)",
        ),
        (nir.Linear(np.ones((2, 2, 2))), (2,), "shape-mismatch", "weight has 3 dimensions; expected 2"),
        (
            nir.Linear(np.ones((2, 3))),
            (2, 2),
            "shape-mismatch",
            "weight has shape (2, 3), the input has shape (2, 2) (4 elements)",
        ),
        (nir.Affine(np.ones((2, 3)), np.ones(3)), (3,), "shape-mismatch", "bias has shape (3,); expected 2 values"),
        (nir.Affine(np.ones((1, 3)), np.ones(3)), (3,), "shape-mismatch", "bias has shape (3,); expected 1 value"),
        (
            nir.Scale(np.ones(3)),
            (2,),
            "shape-mismatch",
            "scale has shape (3,), the input has shape (2,); give one value, or one per element",
        ),
        (nir.Scale(np.array(["a", "b"])), (2,), "malformed", "scale is array(['a', 'b']"),
        (nir.Scale(np.array([1j, 1j])), (2,), "malformed", "scale is array([0.+1.j, 0.+1.j]); expected numbers"),
        (nir.Scale(np.array([1, np.inf])), (2,), "not-finite", "scale contains values that are not finite"),
        (delay(1e-3, -2e-3), (2,), "delay", "delay is -0.002 s; it must not be negative"),
        (
            delay(1e-3, 2.5e-3),
            (2,),
            "delay",
            "delay is 0.0025 s, which is 2.5 steps of 0.001 s; use a whole number of steps, nearest: 0.002 and 0.003 s",
        ),
        (flatten(1, 0), (2, 3, 4), "shape-mismatch", "flattens dimensions 1 to 0, the input has shape (2, 3, 4)"),
        (flatten(0, 3), (2, 3, 4), "shape-mismatch", "flattens dimensions 0 to 3, the input has shape (2, 3, 4)"),
        (flatten(-4, 2), (2, 3, 4), "malformed", "start_dim is [-4.0]; expected 1 whole number, at least -3"),
        (conv(), (3, 3), "shape-mismatch", "needs an input of 3 dimensions (channels first), the input has shape (3,"),
        (
            changed(conv(), weight=np.ones((2, 1, 3))),
            (1, 3, 3),
            "shape-mismatch",
            "weight has shape (2, 1, 3); expected 4 dimensions",
        ),
        (
            changed(conv(), weight=np.ones((2, 0, 3, 3))),
            (1, 3, 3),
            "shape-mismatch",
            "weight has shape (2, 0, 3, 3); expected 4 dimensions",
        ),
        (
            conv(input_shape=(4, 3)),
            (1, 3, 4),
            "shape-mismatch",
            "input_shape is (4, 3), the input has shape (3, 4)",
        ),
        (
            conv(out=4, per_group=3, groups=2),
            (5, 3, 3),
            "shape-mismatch",
            "weight has shape (4, 3, 3, 3) in 2 groups, which needs 6 input channels; the input has 5 ",
        ),
        (conv(out=3, per_group=1, groups=2), (2, 3, 3), "shape-mismatch", "weight has shape (3, 1, 3, 3) in 2 groups"),
        (
            changed(conv(), stride=0),
            (1, 3, 3),
            "malformed",
            "stride is [0.0, 0.0]; expected 2 whole numbers, at least 1",
        ),
        (changed(conv(), stride=(1, 1.5)), (1, 3, 3), "malformed", "stride is [1.0, 1.5]; expected 2 whole numbers"),
        (changed(conv(), dilation=(1, 1, 1)), (1, 5, 5), "malformed", "dilation is [1.0, 1.0, 1.0]; expected 2 whole"),
        (
            changed(conv(), padding=-1),
            (1, 3, 3),
            "malformed",
            "padding is [-1.0, -1.0]; expected 2 whole numbers, at le",
        ),
        (
            changed(conv(), groups=2**31 + 1),
            (1, 3, 3),
            "malformed",
            "groups is [2147483649.0]; expected 1 whole number, ",
        ),
        (
            changed(conv(), padding="full"),
            (1, 3, 3),
            "padding",
            "padding is 'full'; allowed: same, valid, or numbers",
        ),
        (
            changed(conv(), padding="same", stride=(1, 2)),
            (1, 3, 3),
            "padding",
            "padding 'same' with stride (1, 2) is ambiguous between programs; give the padding as numbers",
        ),
        (conv(), (1, 2, 3), "shape-mismatch", "window (3, 3) is larger than the padded input (1, 2, 3)"),
        (
            conv(taps=(1, 1), padding=10**5),
            (1, 3, 3),
            "too-large",
            "has 80,002,400,018 output elements; at most 100,000,000",
        ),
        (
            pool(),
            (4, 4),
            "shape-mismatch",
            "needs an input of 3 dimensions (channels, rows, columns), the input has shape (4",
        ),
        (pool(stride=(0, 1)), (1, 4, 4), "malformed", "stride is [0.0, 1.0]; expected 2 whole numbers, at least 1"),
        (pool(kernel=(5, 2)), (1, 4, 4), "shape-mismatch", "window (5, 2) is larger than the padded input (1, 4, 4)"),
        (
            pool(kernel=(10**5, 10**4)),
            (1, 4, 4),
            "too-large",
            "kernel_size is (100000, 10000); at most 100,000,000 elem",
        ),
    ],
)
def test_a_contradiction_is_named_with_its_numbers(node, shape, kind, said):
    with pytest.raises(Unsupported) as caught:
        linear_node(node, shape, DT_S)
    ((found, message),) = caught.value.reasons
    assert found == kind
    assert message.startswith(said)
    assert str(caught.value) == message
    assert "\n" not in message


def test_a_parameter_that_is_missing_or_no_number_is_malformed():
    node = nir.Scale(np.ones(2))
    with pytest.raises(Unsupported) as caught:
        floats(node, "gain")
    assert caught.value.reasons == (("malformed", "gain is None; expected numbers"),)
    assert floats(nir.Scale(np.array([1, 2], np.int8)), "scale").dtype == np.float64


def test_one_number_stands_for_every_axis():
    assert whole_numbers(conv(stride=2), "stride", 2, 1) == (2, 2)
    assert whole_numbers(conv(stride=(2, 1)), "stride", 2, 1) == (2, 1)
    assert whole_numbers(changed(conv(), groups=2**31), "groups", 1, 2**31) == (2**31,)


def test_parameters_are_one_value_one_for_each_element_or_one_for_each_position():
    shape = (2, 1, 3)
    assert spread(np.array([4.0]), shape, "r").tolist() == [4] * 6
    assert spread(np.arange(6.0), shape, "r").tolist() == [0, 1, 2, 3, 4, 5]
    assert spread(np.array([[1.0, 2, 3]]), shape, "r").tolist() == [1, 2, 3, 1, 2, 3]
    assert spread(np.array([[[5.0]], [[6.0]]]), shape, "r").tolist() == [5, 5, 5, 6, 6, 6]
    for values in (np.ones(3), np.ones((1, 1, 1, 3)), np.ones((2, 2))):  # features, a batch, another size
        with pytest.raises(Unsupported):
            spread(values, shape, "r")


def test_a_delay_is_a_whole_number_of_steps_up_to_a_thousandth():
    read = linear_node(delay(0, 2.0009e-3, 2.9991e-3), (3,), DT_S)
    assert read.delay.tolist() == [0, 2, 3]
    assert read.delay.dtype == np.int64
    assert read.weights is None
    for seconds in (2.002e-3, 2.998e-3):
        with pytest.raises(Unsupported, match=r"nearest: 0\.002 and 0\.003 s"):
            linear_node(delay(seconds), (1,), DT_S)


def test_flatten_keeps_what_lies_outside():
    assert linear_node(flatten(0, 1), (2, 3, 4), DT_S).shape == (6, 4)
    assert linear_node(flatten(-2, -1), (2, 3, 4), DT_S).shape == (2, 12)
    assert linear_node(flatten(0, 0), (2, 3, 4), DT_S).shape == (2, 3, 4)
    assert linear_node(flatten(-3, 2), (2, 3, 4), DT_S).shape == (24,)


def mapped(node, values):
    """The output of a linear node for one signal, in its shape."""
    read = linear_node(node, values.shape, DT_S)
    result = apply(read.weights, values.reshape(-1, 1))[:, 0]
    return (result if read.bias is None else result + read.bias).reshape(read.shape)


def test_bias_of_one_value_is_that_of_every_output():
    signal = np.ones(3)
    assert mapped(nir.Affine(np.ones((2, 3)), np.array([0.5])), signal).tolist() == [3.5, 3.5]
    assert mapped(nir.Affine(np.ones((2, 3)), np.array([0.5, 1])), signal).tolist() == [3.5, 4]
    image = np.zeros((1, 3, 4))
    assert mapped(conv(bias=[1, 2]), image).tolist() == [[[1, 1]], [[2, 2]]]


@pytest.mark.parametrize("taps", [(2, 2), (2, 3), (4, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (3, 1), (1, 3), (2, 3)])
def test_padding_same_is_that_of_torch(taps, dilation):
    """With an odd total, torch pads one more at the end."""
    rng = np.random.default_rng(0)
    weight, signal = rng.normal(size=(2, 1, *taps)), rng.normal(size=(1, 8, 9))
    expected = torch.nn.functional.conv2d(
        *(torch.from_numpy(each) for each in (signal[None], weight)), padding="same", dilation=dilation
    )[0]
    node = nir.Conv2d(None, weight, 1, "same", dilation, 1, np.zeros(2))
    np.testing.assert_allclose(mapped(node, signal), expected.numpy(), rtol=1e-10, atol=1e-12)
    assert np.array_equal(mapped(changed(node, padding=b"same"), signal), mapped(changed(node, padding="same"), signal))


@pytest.mark.parametrize("padding", [0, 2, "valid", "same"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_convolution_in_one_dimension_is_that_of_torch(padding, stride, dilation):
    if padding == "same" and stride > 1:
        return
    rng = np.random.default_rng(0)
    weight, signal, bias = rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 9)), rng.normal(size=4)
    expected = torch.nn.functional.conv1d(
        *(torch.from_numpy(each) for each in (signal[None], weight, bias)), stride, padding, dilation, 2
    )[0]
    node = nir.Conv1d(9, weight, stride, padding, dilation, 2, bias)
    np.testing.assert_allclose(mapped(node, signal), expected.numpy(), rtol=1e-10, atol=1e-12)


def test_average_and_sum_of_a_window():
    image = np.arange(16.0).reshape(1, 4, 4)
    assert mapped(pool(kernel=(1, 2), stride=(2, 2)), image).tolist() == [[[1, 5], [17, 21]]]
    assert mapped(pool(nir.AvgPool2d, (1, 2), (2, 2)), image).tolist() == [[[0.5, 2.5], [8.5, 10.5]]]
    two = np.concatenate([image, -image])
    assert mapped(pool(), two)[1].tolist() == (-mapped(pool(), image)[0]).tolist()
