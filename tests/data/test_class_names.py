"""Every class of a data set has a name of its own."""

from __future__ import annotations

import pytest

from esl_neuro.data.class_names import CLASS_NAMES

CLASSES = {"fashion_mnist": 10, "cifar10": 10, "cifar100": 100, "dvs_cifar10": 10, "dvs128_gesture": 11, "shd": 20}


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_there_are_as_many_names_as_classes_and_no_name_twice(name):
    assert len(CLASS_NAMES[name]) == len(set(CLASS_NAMES[name])) == CLASSES[name]
